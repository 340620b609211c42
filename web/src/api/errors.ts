/** What the server says is wrong, and what a browser finds when it cannot reach it. */

export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    message: string,
    readonly status: number, // 0: no answer at all
    readonly code: string,
    readonly param: string | null = null,
    readonly retryAfterS: number | null = null,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }

  /** Nobody is signed in (any more). */
  get unauthenticated(): boolean {
    return this.status === 401;
  }

  /** The network, not the server. */
  get offline(): boolean {
    return this.status === 0;
  }
}

export const OFFLINE = "offline";

/** The error that an answer's body tells, in OpenAI's shape or in none. */
export function errorOf(status: number, body: unknown, retryAfter: string | null = null): ApiError {
  const told = isRecord(body) && isRecord(body["error"]) ? body["error"] : {};
  const { message, code, param, ...details } = told;
  const retryAfterS = retryAfter && /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
  return new ApiError(
    typeof message === "string" && message ? message : `The server answered with status ${status}.`,
    status,
    code === undefined || code === null ? `http_${status}` : String(code),
    typeof param === "string" ? param : null,
    retryAfterS,
    details,
  );
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
