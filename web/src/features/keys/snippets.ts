/** How to use a key, to copy. */

interface Use {
  base: string;
  key: string;
  model: string;
}

export type Client = "curl" | "Python" | "Open WebUI";

export const SNIPPETS: Record<Client, (use: Use) => string> = {
  curl: ({ base, key, model }) => `curl -N -L ${base}/chat/completions \\
  -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' \\
  -d '${JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Hello" }] })}'`,
  Python: ({ base, key, model }) => `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="${key}")
for chunk in client.chat.completions.create(
    model="${model}", messages=[{"role": "user", "content": "Hello"}], stream=True
):
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)`,
  "Open WebUI": ({ base, key }) => `Settings > Connections > OpenAI API
URL   ${base}
Key   ${key}`,
};
