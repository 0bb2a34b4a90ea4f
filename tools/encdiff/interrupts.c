/*
 * A thread of its own waits for SIGINT, which all others block, so that no handler ever runs on a thread that computes:
 * oneDNN 2's matrix products keep their stack pointer in a buffer on the heap, where the frame of a handler would
 * overwrite what lies before it.
 */
#define _GNU_SOURCE
#include "interrupts.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static bool blocked, waiting;
static atomic_bool ending;
static pthread_t waiter;

static sigset_t only_interrupt(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    return set;
}

static void *wait_for_interrupts(void *context)
{
    int number;
    sigset_t set = only_interrupt();
    if (sigwait(&set, &number) != 0 || atomic_load(&ending)) return NULL;
    encdiff_cancel(context);
    if (sigwait(&set, &number) != 0 || atomic_load(&ending)) return NULL;
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGINT);
    return NULL;
}

void interrupts_block(void)
{
    struct sigaction action;
    sigset_t set = only_interrupt();
    /* A shell starts background jobs with the signal ignored; that is left as it is. */
    if (sigaction(SIGINT, NULL, &action) == 0 && action.sa_handler == SIG_IGN) return;
    blocked = pthread_sigmask(SIG_BLOCK, &set, NULL) == 0;
}

void interrupts_begin(encdiff_context *context)
{
    atomic_store(&ending, false);
    waiting = blocked && pthread_create(&waiter, NULL, wait_for_interrupts, context) == 0;
    if (!waiting) interrupts_end();
}

void interrupts_end(void)
{
    sigset_t set = only_interrupt();
    if (waiting) {
        atomic_store(&ending, true);
        pthread_kill(waiter, SIGINT); /* wakes it alone; had it ended already, this reaches nobody */
        pthread_join(waiter, NULL);
    }
    if (blocked) pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    waiting = blocked = false;
}
