import { Page } from "@/ui/page";

export default function P() {
  return <Page title="keys-page">{null}</Page>;
}
