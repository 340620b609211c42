/* What vLLM's HTTP server writes, as far as a proxy could care. */
#ifndef TEXTS_H
#define TEXTS_H

#define STREAM_HEAD                                                                                          \
    "HTTP/1.1 200 OK\r\ndate: Sat, 01 Nov 2025 00:00:00 GMT\r\nserver: uvicorn\r\n"                          \
    "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"

#define EVENT_START                                                                                          \
    "data: {\"id\":\"chatcmpl-bench0123456789abcdef0123456789ab\",\"object\":\"chat.completion.chunk\","     \
    "\"created\":1761955200,\"model\":\"bench\","

#define DELTA_END "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"

#define LAST_EVENT                                                                                           \
    EVENT_START "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\","       \
                "\"stop_reason\":null}]}\n\n"

#define WHOLE_ANSWER                                                                                         \
    "{\"id\":\"chatcmpl-bench0123456789abcdef0123456789ab\",\"object\":\"chat.completion\","                 \
    "\"created\":1761955200,\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":"            \
    "\"assistant\",\"content\":\"Pack my box with five dozen liquor jugs.\",\"refusal\":null,"               \
    "\"tool_calls\":[],\"reasoning_content\":null},\"logprobs\":null,\"finish_reason\":\"stop\","            \
    "\"stop_reason\":null}],\"system_fingerprint\":null,\"usage\":{\"prompt_tokens\":42,"                    \
    "\"total_tokens\":62,\"completion_tokens\":20,\"prompt_tokens_details\":null}}"

#define METRICS                                                                                              \
    "vllm:num_requests_running{model_name=\"bench\"} 0.0\n"                                                  \
    "vllm:num_requests_waiting{model_name=\"bench\"} 0.0\n"

#define MODELS                                                                                               \
    "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1761955200,"          \
    "\"owned_by\":\"vllm\",\"root\":\"bench\",\"parent\":null,\"max_model_len\":32768}]}"

#endif
