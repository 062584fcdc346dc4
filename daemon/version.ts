/** Version of this program; numeric, for tools that compare it. Kept equal to package.json by the tidy test. */
export const VERSION = '0.1.0';
