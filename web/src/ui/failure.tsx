/** Why something does not work, and what to do about it: pages to open and commands to copy. */

import type { Failure, Fix } from "@/api/models";
import type { ReactNode } from "react";
import { Command } from "./copy";
import { Icon } from "./icons";

export function FailurePanel({ failure, children }: { failure: Failure; children?: ReactNode }) {
  return (
    <div className="failure" role="alert">
      <p className="failure-message">{failure.message}</p>
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

/** As the server lists them; else what its sentence holds of commands and addresses. */
export function fixesOf({ fix, fixes }: Pick<Failure, "fix" | "fixes">): Fix[] {
  if (fixes?.length) return fixes;
  if (!fix) return [];
  const commands = [...fix.matchAll(/`([^`]+)`/g)].map(([, command]) => command ?? "");
  const urls = [...fix.matchAll(/https:\/\/[^\s`)]+[^\s`).,;]/g)].map(([url]) => url);
  return [
    fixOf({ text: fix.replaceAll("`", "") }),
    ...commands.filter((command) => command.includes(" ")).map((command) => fixOf({ command })),
    ...urls.map((url) => fixOf({ url })),
  ];
}

function labelOf(url: string): string {
  const { hostname } = new URL(url);
  if (hostname.endsWith("huggingface.co")) return "Open the model’s page";
  if (hostname.includes("aws.amazon.com")) return /servicequotas/.test(url) ? "Open the quota page" : "Open AWS";
  return `Open ${hostname}`;
}
