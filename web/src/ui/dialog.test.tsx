// @vitest-environment jsdom
import { cleanup, fireEvent, render } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Dialog } from "./dialog";

beforeEach(() => {
  // Not in jsdom.
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
});
afterEach(cleanup);

/** As Chromium does when Esc is pressed again and again. */
function closedByBrowser(sure: boolean) {
  const onClose = vi.fn();
  const { getByRole } = render(
    <Dialog title="Your key" onClose={onClose} sure={sure}>
      sk-secret
    </Dialog>,
  );
  const dialog = getByRole("dialog") as HTMLDialogElement;
  dialog.close();
  fireEvent(dialog, new Event("close"));
  return { onClose, dialog };
}

test("what is shown once stays, however the browser closes it", () => {
  const { onClose, dialog } = closedByBrowser(false);
  expect([dialog.open, onClose.mock.calls.length]).toEqual([true, 0]);
});

test("another is closed for the page as well", () => {
  const { onClose } = closedByBrowser(true);
  expect(onClose).toHaveBeenCalledOnce();
});
