/** Why something does not work, and what to do about it: pages to open and commands to copy. */

import type { Failure, Fix } from "@/api/models";
import type { ReactNode } from "react";
import { Command } from "./copy";
import { Icon } from "./icons";

export function FailurePanel({ failure, children }: { failure: Failure; children?: ReactNode }) {
  const [headline, detail] = toldOf(failure.message);
  return (
    <div className="failure" role="alert">
      <div>
        <p className="failure-message">{headline}</p>
        {detail && <p className="failure-detail">{detail}</p>}
      </div>
      {fixesOf(failure).map((fix) => (
        <FixLine key={`${fix.text}${fix.command ?? ""}${fix.url ?? ""}`} fix={fix} />
      ))}
      {children && <div className="row">{children}</div>}
    </div>
  );
}

function FixLine({ fix }: { fix: Fix }) {
  return (
    <div className="fix">
      {fix.text && <p>{fix.text}</p>}
      {fix.command && <Command text={fix.command} />}
      {fix.url && (
        <a className="button" href={fix.url} target="_blank" rel="noreferrer noopener">
          <Icon name="external" size={16} /> {labelOf(fix.url)}
        </a>
      )}
    </div>
  );
}

const fixOf = (known: Partial<Fix>): Fix => ({ text: "", command: null, url: null, ...known });

const LONG = 120; // characters
const WORDS = 3; // as `pulumi config set` has: more make a command that does something

/** What went wrong in a few words, and what AWS or the engine said of it, where a message has both. */
export function toldOf(message: string): [headline: string, detail: string] {
  if (message.length <= LONG) return [message, ""];
  const [, headline = message, bracket, rest = ""] = /^(.{20,}?)(?:: | (\()(?=tried ))(.+)$/s.exec(message) ?? [];
  const detail = bracket ? rest.replace(/\)(?=\.?$)/, "") : rest;
  return [detail ? `${headline}.` : headline, detail.charAt(0).toUpperCase() + detail.slice(1)];
}

/** As the server lists them; else its sentence. */
export function fixesOf({ fix, fixes }: Pick<Failure, "fix" | "fixes">): Fix[] {
  return (fixes?.length ? fixes : [fixOf({ text: fix })]).flatMap(spelledOut);
}

/** What a sentence holds of commands and addresses stands for itself. */
function spelledOut(fix: Fix): Fix[] {
  const { text } = fix;
  if (fix.command || fix.url) return [fix];
  if (!text) return [];
  const commands = [...text.matchAll(/`([^`]+)`/g)].map(([, command]) => command ?? "");
  const urls = [...text.matchAll(/https:\/\/[^\s`)]+[^\s`).,;]/g)].map(([url]) => url);
  const said = urls.reduce((left, url) => left.replace(`: ${url}`, "").replace(` ${url}`, ""), text);
  return [
    fixOf({ text: said.replaceAll("`", "") }),
    ...commands.filter((command) => command.split(" ").length > WORDS).map((command) => fixOf({ command })),
    ...urls.map((url) => fixOf({ url })),
  ];
}

function labelOf(url: string): string {
  const { hostname } = new URL(url);
  if (hostname.endsWith("huggingface.co")) {
    return url.endsWith("/settings/tokens") ? "Open your tokens" : "Open the model’s page";
  }
  if (hostname.includes("aws.amazon.com")) return /servicequotas/.test(url) ? "Open the quota page" : "Open AWS";
  return `Open ${hostname}`;
}
