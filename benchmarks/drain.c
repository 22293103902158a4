/* What a C client on librabbitmq takes to drain a queue and throw everything away: the wire's own speed.
 *
 *     drain HOST PORT USER PASSWORD VHOST QUEUE COUNT
 *
 * Prefetch 1000, one ack for 500 deliveries. Prints begin and end in seconds since the epoch and CPU seconds, as JSON.
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 8) return fprintf(stderr, "usage: drain HOST PORT USER PASSWORD VHOST QUEUE COUNT\n"), 2;
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *tcp = amqp_tcp_socket_new(connection);
    if (amqp_socket_open(tcp, argv[1], atoi(argv[2]))) return fprintf(stderr, "can't connect\n"), 1;
    amqp_login(connection, argv[5], 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, argv[3], argv[4]);
    amqp_channel_open(connection, 1);
    amqp_basic_qos(connection, 1, 0, 1000, 0);
    amqp_basic_consume(connection, 1, amqp_cstring_bytes(argv[6]), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    if (amqp_get_rpc_reply(connection).reply_type != AMQP_RESPONSE_NORMAL) return fprintf(stderr, "refused\n"), 1;
    double begin = 0, cpu = 0;
    for (long seen = 1, count = atol(argv[7]); seen <= count; seen++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        if (amqp_consume_message(connection, &envelope, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL) return 1;
        if (seen == 1) begin = seconds(CLOCK_REALTIME), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        if (seen % 500 == 0 || seen == count) amqp_basic_ack(connection, 1, envelope.delivery_tag, 1);
        amqp_destroy_envelope(&envelope);
    }
    printf("{\"begin\": %f, \"end\": %f, \"cpu\": %f}\n", begin, seconds(CLOCK_REALTIME),
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    return 0;
}
