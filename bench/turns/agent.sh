#!/bin/sh
# An agent that answers at once and then takes five seconds, in the records of Claude Code.
if [ "$1" = --version ]; then
  echo "2.1.329 (Claude Code)"
  exit
fi
for argument; do
  case $argument in --session-id=* | --resume=*) id=${argument#*=} ;; esac
done
while read -r line; do
  uuid=${line##*\"uuid\":\"}
  uuid=${uuid%%\"*}
  printf '{"type":"system","subtype":"init","session_id":"%s","model":"bench","claude_code_version":"2.1.329"}\n' "$id"
  printf '{"type":"stream_event","session_id":"%s","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"first"}}}\n' "$id"
  sleep 5
  printf '{"type":"assistant","session_id":"%s","message":{"id":"m","model":"bench","content":[{"type":"text","text":"first"}]}}\n' "$id"
  printf '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"first","session_id":"%s","user_message_uuids":["%s"],"total_cost_usd":0,"usage":{},"modelUsage":{}}\n' "$id" "$uuid"
done
