/** For services that ask nobody who calls: their requests are names, and what is larger is not read. */
export const openToAll = { readMaxBytes: 64 * 1024 } as const;
