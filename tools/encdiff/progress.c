#define _GNU_SOURCE
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 0.1 /* seconds between two looks of the line */
#define BAR 24       /* characters */

double progress_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_start(progress *p, bool quiet) { *p = (progress){.on = !quiet && isatty(STDERR_FILENO)}; }

void progress_clear(progress *p)
{
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = false;
}

static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static const char *left(double seconds, char buffer[24])
{
    long long s = (long long)(seconds + 0.5);
    if (!(seconds >= 0) || s > 359999)
        snprintf(buffer, 24, "--:--");
    else if (s < 3600)
        snprintf(buffer, 24, "%lld:%02lld", s / 60, s % 60);
    else
        snprintf(buffer, 24, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return buffer;
}

/* A new activity, or one that began again, starts a new clock. True when it is time to draw. */
static bool due(progress *p, const char *activity, int64_t done, int64_t total)
{
    double now = progress_now();
    if (!p->on || total < 1) return false;
    if (done <= p->done || strncmp(p->activity, activity, sizeof p->activity - 1) != 0) {
        snprintf(p->activity, sizeof p->activity, "%s", activity);
        p->first = done;
        p->start = now;
        p->shown = 0;
    }
    p->done = done;
    if (now - p->shown < INTERVAL && done < total) return false;
    p->shown = now;
    return true;
}

/* "activity [####....] 12/50  8.3/s  0:05 left  loss 0.0312", cut to the terminal. */
static void draw(progress *p, const char *activity, int64_t done, int64_t total, const char *rate, const char *loss)
{
    char line[256], bar[BAR + 1], eta[24];
    double seconds = progress_now() - p->start;
    int full = (int)((double)BAR * (double)done / (double)total);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR] = 0;
    double speed = done > p->first ? (double)(done - p->first) / fmax(seconds, 1e-9) : 0;
    snprintf(line, sizeof line, "%s [%s] %lld/%lld  %s  %s left%s", p->title ? p->title : activity, bar,
             (long long)done, (long long)total, rate, left(speed > 0 ? (double)(total - done) / speed : -1, eta), loss);
    int width = terminal_width() - 1;
    fprintf(stderr, "\r%.*s\033[K", width, line);
    fflush(stderr);
    p->drawn = true;
}

void progress_show(progress *p, const char *activity, int64_t done, int64_t total)
{
    char rate[32];
    if (!due(p, activity, done, total)) return;
    double seconds = fmax(progress_now() - p->start, 1e-9);
    snprintf(rate, sizeof rate, "%.3g/s", (double)(done - p->first) / seconds);
    draw(p, activity, done, total, rate, "");
    if (done >= total) progress_clear(p);
}

int32_t progress_step(const encdiff_progress_info *info, void *user)
{
    progress_show(user, info->activity, info->done, info->total);
    return 0;
}

int32_t progress_train(const encdiff_train_report *report, void *user)
{
    progress *p = user;
    char rate[48], loss[32];
    if (!due(p, "training", report->step, p->total_steps)) return 0;
    snprintf(rate, sizeof rate, "%.0f images/s", report->images_per_second);
    snprintf(loss, sizeof loss, "  loss %.4g", report->loss);
    draw(p, "training", report->step, p->total_steps, rate, loss);
    if (report->step >= p->total_steps) progress_clear(p);
    return 0;
}
