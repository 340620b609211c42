import type { Conversation } from "@/features/chat/conversation";

/** A chat that nobody has named or changed. */
export const CHAT: Conversation = {
  id: "c",
  title: "New chat",
  titled: false,
  model: "small",
  system: "",
  params: {},
  chosen: {},
  createdAt: 0,
  updatedAt: 0,
};
