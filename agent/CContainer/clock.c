// Who keeps the clock of a guest that is not the agent's own.
#include "internal.h"
#include <sys/timex.h>

bool cc_clock_is_kept(void) {
    struct timex state = { .modes = 0 };
    return adjtimex(&state) >= 0 && (state.status & STA_UNSYNC) == 0;
}
