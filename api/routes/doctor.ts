import { queryBool, readJson } from '../body.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendJson } from '../stream.ts';

async function answer({ ports, response }: RequestContext, deep: boolean, repair: boolean): Promise<void> {
  const report = await ports.engine.doctor.examine({ deep, repair });
  sendJson(response, {
    OK: report.findings.every((finding) => finding.repaired),
    Deep: report.deep,
    Looked: report.looked,
    Lines: report.lines,
    Findings: report.findings.map((finding) => ({
      Kind: finding.kind,
      Subject: finding.subject,
      Problem: finding.problem,
      Remedy: finding.remedy,
      Repairable: finding.repairable,
      Repaired: finding.repaired,
      RepairError: finding.repairError,
    })),
  });
}

/** `shoal doctor`; no counterpart in the Docker API. GET changes nothing, POST may repair. */
export const doctorRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/shoal/doctor',
    handler: (context) => answer(context, queryBool(context.query, 'deep'), false),
  },
  {
    method: 'POST',
    path: '/shoal/doctor',
    handler: async (context) => {
      const body = new Fields(await readJson(context));
      await answer(context, body.bool('Deep'), body.bool('Repair'));
    },
  },
];
