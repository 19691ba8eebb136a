#!/bin/sh
# hub.sh - one HTTP answer for a file below $ROOT, as a model hub gives it: ranges, and 404. For socat:
#
#   ROOT=DIR socat TCP-LISTEN:8000,bind=127.0.0.1,fork EXEC:tests/recipes/hub.sh
#
# $ROOT/.cut, if it is there, holds a number of bytes after which the connection is dropped; $ROOT/.log gets
# a line a request: path and first byte asked for.
first=0
read -r _ path _
while read -r name value && [ "$name" != "$(printf '\r')" ]; do
    case $name in [Rr]ange:) first=${value#bytes=}; first=${first%%-*} ;; esac
done
echo "$path $first" >> "$ROOT/.log"
reply() { printf 'HTTP/1.1 %s\r\nConnection: close\r\n' "$1"; }
if [ ! -f "$ROOT$path" ]; then
    reply '404 Not Found'; printf 'Content-Length: 0\r\n\r\n'; exit
fi
size=$(stat -c %s "$ROOT$path")
left=$((size - first))
if [ "$first" = 0 ]; then
    reply '200 OK'
elif [ "$left" -le 0 ]; then
    reply '416 Range Not Satisfiable'; printf 'Content-Length: 0\r\n\r\n'; exit
else
    reply '206 Partial Content'; printf 'Content-Range: bytes %s-%s/%s\r\n' "$first" $((size - 1)) "$size"
fi
printf 'Content-Length: %s\r\n\r\n' "$left"
tail -c "+$((first + 1))" "$ROOT$path" | head -c "$(cat "$ROOT/.cut" 2> /dev/null || echo "$left")"
