#!/bin/sh
# librabbitmq's command line tools, each of them: what they print and how they end.
host=$1 port=$2 vhost=$3
say() { printf '%s: %s\n' "$1" "$2"; }
at="--server=$host --port=$port --vhost=$vhost --username=guest --password=guest"
q=s.tools.q
say declare "$(amqp-declare-queue $at -d -q $q 2>&1; echo "ended $?")"
say server-named "$(amqp-declare-queue $at -q '' 2>&1 | sed 's/amq.gen-.*/amq.gen-*/')"
say publish "$(amqp-publish $at -r $q -b 'hello world' -p -C text/plain -E utf-8 2>&1; echo "ended $?")"
say get "$(amqp-get $at -q $q 2>&1; echo "ended $?")"
say get-empty "$(amqp-get $at -q $q 2>&1; echo "ended $?")"
for i in 1 2 3; do amqp-publish $at -r $q -b "m$i"; done
say lines "$(printf 'one\ntwo\nthree\n' | amqp-publish $at -r $q -l 2>&1; echo "ended $?")"
say consume "$(amqp-consume $at -q $q -c 6 -p 1 -- sh -c 'cat; echo' 2>&1 | tr '\n' ' '; echo "ended $?")"
head -c 300000 /dev/zero | tr '\0' x | amqp-publish $at -r $q
say big "$(amqp-get $at -q $q | wc -c)"
say publish-missing-exchange "$(amqp-publish $at -e s.tools.none -r k -b x 2>&1; echo "ended $?")"
say get-missing "$(amqp-get $at -q s.tools.none 2>&1; echo "ended $?")"
say consume-missing "$(amqp-consume $at -q s.tools.none cat 2>&1; echo "ended $?")"
say consume-bind "$( (sleep 1; amqp-publish $at -e amq.topic -r a.b -b bound) & amqp-consume $at -e amq.topic -r 'a.*' -c 1 cat 2>&1 | sed 's/amq.gen-[^ ]*/amq.gen-*/'; echo "ended $?")"
say wrong-password "$(amqp-publish --server=$host --port=$port --vhost=$vhost --username=guest --password=wrong -r $q -b x 2>&1; echo "ended $?")"
say wrong-vhost "$(amqp-publish --server=$host --port=$port --vhost=s.none --username=guest --password=guest -r $q -b x 2>&1; echo "ended $?")"
say heartbeat "$(amqp-publish $at --heartbeat=2 -r $q -b beat 2>&1; echo "ended $?")"
say get-last "$(amqp-get $at -q $q 2>&1; echo "ended $?")"
say delete "$(amqp-delete-queue $at -q $q 2>&1; echo "ended $?")"
say delete-missing "$(amqp-delete-queue $at -q $q 2>&1; echo "ended $?")"
