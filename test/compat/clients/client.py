"""Chats of Python clients, for the tests: reads one JSON request a line and prints one JSON answer a line.

Usage: client.py openai-chat|openai-responses|litellm

Request: {"options": {"baseURL", "token", "model", "headers"}, "messages": [...], "stream": bool}, where a
message is {"role", "content"}. Answer: {"text", "pieces", "inputTokens", "outputTokens"} or {"failure": {...}}.
"""

import json
import sys


def openai_client(options):
    from openai import OpenAI

    headers = options["headers"]
    return OpenAI(base_url=options["baseURL"], api_key=options["token"], default_headers=headers, max_retries=0)


def told(pieces, usage, names):
    pieces = [piece for piece in pieces if piece]
    counts = [getattr(usage, name) for name in names]
    return {"text": "".join(pieces), "pieces": len(pieces), "inputTokens": counts[0], "outputTokens": counts[1]}


def told_by_chat(answer, stream):
    names = ["prompt_tokens", "completion_tokens"]
    if not stream:
        return told([answer.choices[0].message.content], answer.usage, names)
    chunks = list(answer)
    usage = next(chunk.usage for chunk in reversed(chunks) if getattr(chunk, "usage", None))
    return told([chunk.choices[0].delta.content for chunk in chunks if chunk.choices], usage, names)


def openai_chat(options, messages, stream):
    more = {"stream_options": {"include_usage": True}} if stream else {}
    create = openai_client(options).chat.completions.create
    return told_by_chat(create(model=options["model"], messages=messages, stream=stream, **more), stream)


def openai_responses(options, messages, stream):
    names = ["input_tokens", "output_tokens"]
    responses = openai_client(options).responses
    if not stream:
        answer = responses.create(model=options["model"], input=messages)
        return told([answer.output_text], answer.usage, names)
    with responses.stream(model=options["model"], input=messages) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        return told(pieces, events.get_final_response().usage, names)


def litellm_chat(options, messages, stream):
    import litellm

    litellm.suppress_debug_info = True
    more = {"stream_options": {"include_usage": True}} if stream else {}
    answer = litellm.completion(
        model="openai/" + options["model"],
        base_url=options["baseURL"],
        api_key=options["token"],
        extra_headers=options["headers"],
        messages=messages,
        stream=stream,
        num_retries=0,
        **more,
    )
    return told_by_chat(answer, stream)


clients = {"openai-chat": openai_chat, "openai-responses": openai_responses, "litellm": litellm_chat}
ask = clients[sys.argv[1]]
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = ask(request["options"], request["messages"], request["stream"])
    except Exception as error:
        status = getattr(error, "status_code", None)
        answer = {"failure": {"type": type(error).__name__, "status": status, "message": str(error)}}
    print(json.dumps(answer), flush=True)
