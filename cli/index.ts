/** The client is a program of its own (main.ts); other rooms take nothing from it. */
export {};
