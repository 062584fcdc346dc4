export { createPlanner, PLAN_TASKS_MAX, type PlannerOptions } from './planner.ts';
