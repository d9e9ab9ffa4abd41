<?php
// php-amqplib, widely: each step prints `name: what was seen`.
require_once 'PhpAmqpLib/autoload.php';
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

[$_, $host, $port, $vhost] = $argv;
$P = 's.php.';
function say($step, $seen) { echo $step, ': ', json_encode($seen, JSON_PARTIAL_OUTPUT_ON_ERROR), "\n"; }
function connect($user = 'guest', $pass = 'guest', $place = null, $heartbeat = 0) {
    global $host, $port, $vhost;
    return new AMQPStreamConnection($host, $port, $user, $pass, $place ?? $vhost, false, 'AMQPLAIN', null, 'en_US', 5.0, 10.0, null, false, $heartbeat);
}
function refused($step, $act) {
    $c = connect();
    try {
        $ch = $c->channel();
        $act($ch);
        $ch->queue_declare($GLOBALS['P'] . 'q', true);
        say($step, 'accepted');
    } catch (\Throwable $e) {
        say($step, get_class($e) . ' ' . $e->getCode() . ' ' . substr(preg_replace('/amq\.gen-[\w-]+/', 'amq.gen-*', $e->getMessage()), 0, 250));
    }
    try { $c->close(); } catch (\Throwable $e) { }
}

$c = connect();
$props = $c->getServerProperties();
say('server', [$props['product'][1], array_keys($props['capabilities'][1])]);
$ch = $c->channel();
say('queue', $ch->queue_declare($P . 'q', false, true, false, false, false, new AMQPTable(['x-max-priority' => 3])));
foreach (['direct' => 'k', 'fanout' => '', 'topic' => 't.#', 'headers' => ''] as $kind => $key) {
    $ch->exchange_declare($P . $kind, $kind, false, false, false);
    $ch->queue_bind($P . 'q', $P . $kind, $key, false, $kind == 'headers' ? new AMQPTable(['x-match' => 'all', 'h' => 1]) : []);
    $ch->basic_publish(new AMQPMessage("by $kind", ['application_headers' => new AMQPTable(['h' => 1, 'list' => [1, 'two', null, true, 1.5], 'in' => ['x' => 'y'], 'when' => new DateTime('2020-01-01')]),
        'delivery_mode' => 2, 'priority' => 1, 'correlation_id' => 'c', 'reply_to' => 'r', 'expiration' => '60000', 'message_id' => 'm',
        'timestamp' => 1, 'type' => 't', 'user_id' => 'guest', 'app_id' => 'a', 'content_type' => 'text/plain', 'content_encoding' => 'utf-8']),
        $P . $kind, str_replace('#', 'x', $key));
}
usleep(300000);
for ($i = 0; $i < 4; $i++) {
    $m = $ch->basic_get($P . 'q');
    $p = $m->get_properties();
    $p['application_headers'] = $p['application_headers']->getNativeData();
    ksort($p);
    say('got', [$m->getBody(), $m->getExchange(), $m->getRoutingKey(), $m->isRedelivered(), $p]);
    $m->ack();
}
$ch->exchange_declare($P . 'e2e', 'fanout', false, false, true);
$ch->exchange_bind($P . 'direct', $P . 'e2e', 'k');
$ch->basic_publish(new AMQPMessage('bound'), $P . 'e2e', 'k');
usleep(200000);
say('exchange to exchange', $ch->basic_get($P . 'q', true)->getBody());
foreach ([0, 1, 131063, 131064, 131065, 1 << 20] as $n) {
    $ch->basic_publish(new AMQPMessage(str_repeat('x', $n)), '', $P . 'q');
    for ($i = 0; $i < 50 && !($m = $ch->basic_get($P . 'q', true)); $i++) usleep(50000);
    say("body of $n", strlen($m->getBody()));
}
$sure = $c->channel();
$acked = 0; $nacked = 0; $returned = [];
$sure->set_ack_handler(function () use (&$acked) { $acked++; });
$sure->set_nack_handler(function () use (&$nacked) { $nacked++; });
$sure->set_return_listener(function ($code, $text, $x, $key, $m) use (&$returned) { $returned[] = [$code, $text, $x, $key, $m->getBody()]; });
$sure->confirm_select();
for ($i = 0; $i < 300; $i++) $sure->basic_publish(new AMQPMessage("$i"), '', $P . 'q');
$sure->basic_publish(new AMQPMessage('lost'), '', $P . 'nowhere', true);
$sure->wait_for_pending_acks_returns(5);
say('confirmed', [$acked, $nacked, $returned]);
$reader = $c->channel();
$reader->basic_qos(0, 20, false);
$seen = [];
$tag = $reader->basic_consume($P . 'q', '', false, false, false, false, function ($m) use (&$seen) { $seen[] = (int)$m->getBody(); $m->ack(); });
while (count($seen) < 300) $reader->wait(null, false, 5);
say('in order', $seen === range(0, 299));
say('cancelled', $reader->basic_cancel($tag) == $tag);
foreach (['a', 'b', 'c'] as $b) $ch->basic_publish(new AMQPMessage($b), '', $P . 'q');
usleep(200000);
$reader->basic_get($P . 'q'); $two = $reader->basic_get($P . 'q'); $three = $reader->basic_get($P . 'q');
$two->nack(true, true);
$three->reject(true);
usleep(200000);
$back = [];
while ($m = $reader->basic_get($P . 'q', true)) $back[] = [$m->getBody(), $m->isRedelivered()];
say('nacked and rejected', $back);
$ch->basic_publish(new AMQPMessage('again'), '', $P . 'q');
usleep(200000);
$reader->basic_get($P . 'q');
$reader->basic_recover(true);
usleep(200000);
$m = $reader->basic_get($P . 'q', true);
say('recovered', [$m->getBody(), $m->isRedelivered()]);
[$named] = $ch->queue_declare('', false, false, true);
say('server-named', substr($named, 0, 8));
refused('405', function ($o) use ($named) { $o->queue_declare($named, false, false, true); });
$tx = $c->channel();
$tx->tx_select();
$tx->basic_publish(new AMQPMessage('rolled back'), '', $P . 'q');
$tx->tx_rollback();
$tx->basic_publish(new AMQPMessage('committed'), '', $P . 'q');
$tx->tx_commit();
say('tx', [$ch->basic_get($P . 'q', true)->getBody(), $ch->basic_get($P . 'q', true)]);
$rpc = $c->channel();
$answer = null;
$rpc->basic_consume('amq.rabbitmq.reply-to', '', false, true, false, false, function ($m) use (&$answer) { $answer = $m->getBody(); });
$rpc->basic_publish(new AMQPMessage('question', ['reply_to' => 'amq.rabbitmq.reply-to']), '', $P . 'q');
usleep(300000);
$m = $ch->basic_get($P . 'q', true);
$ch->basic_publish(new AMQPMessage('answer to ' . $m->getBody()), '', $m->get('reply_to'));
while ($answer === null) $rpc->wait(null, false, 5);
say('direct reply-to', $answer);
refused('404 exchange', function ($o) { $o->basic_publish(new AMQPMessage('x'), 's.php.none', 'k'); });
refused('404 queue', function ($o) { $o->queue_declare('s.php.none', true); });
refused('406 inequivalent', function ($o) { $o->queue_declare('s.php.q', false, false); });
refused('406 tag', function ($o) { $o->basic_ack(99); });
refused('403', function ($o) { $o->queue_declare('amq.mine'); });
refused('503', function ($o) { $o->exchange_declare('s.php.odd', 'nonsense'); });
refused('540 prefetch size', function ($o) { $o->basic_qos(10, 1, false); });
refused('540 immediate', function ($o) { $o->basic_publish(new AMQPMessage('x'), '', 's.php.q', false, true); });
foreach ([['guest', 'wrong', $vhost], ['guest', 'guest', 's.none']] as [$user, $pass, $place]) {
    try {
        connect($user, $pass, $place);
        say("login $pass $place", 'accepted');
    } catch (\Throwable $e) {
        say("login $pass $place", get_class($e) . ' ' . substr(preg_replace('/amq\.gen-[\w-]+/', 'amq.gen-*', $e->getMessage()), 0, 250));
    }
}
say('purged', $ch->queue_purge($P . 'q'));
say('deleted', $ch->queue_delete($P . 'q'));
foreach (['direct', 'fanout', 'topic', 'headers'] as $kind) $ch->exchange_delete($P . $kind);
$c->close();
say('closed', !$c->isConnected());
