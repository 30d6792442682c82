/** The part of sql.js that is used here. */
declare module "sql.js" {
  export type SqlValue = number | string | Uint8Array | null;

  export interface Statement {
    step(): boolean;
    getAsObject(): Record<string, SqlValue>;
    free(): boolean;
  }

  export interface Database {
    run(sql: string): Database;
    prepare(sql: string, parameters?: readonly SqlValue[]): Statement;
    export(): Uint8Array;
    close(): void;
  }

  export interface SqlJs {
    readonly Database: new (file?: Uint8Array) => Database;
  }

  export default function initSqlJs(): Promise<SqlJs>;
}
