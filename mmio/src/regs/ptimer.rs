//! PTIMER: the card's clock, in nanoseconds.

use crate::register::registers;

registers! { Ptimer, "PTIMER";
    /// Alarm pending (bit 0); a store of 1 acknowledges.
    INTR = 0x009100, W1c, "K61 nvkm/subdev/timer/nv04.c nv04_timer_intr";
    /// Alarm enable (bit 0).
    INTR_EN = 0x009140, Rw, "K61 nvkm/subdev/timer/nv04.c nv04_timer_alarm_init";
    /// Ratio of the counter to the crystal, numerator.
    NUMERATOR = 0x009200, Rw, "K61 nvkm/subdev/timer/nv41.c nv41_timer_init";
    /// Ratio of the counter to the crystal, denominator.
    DENOMINATOR = 0x009210, Rw, "K61 nvkm/subdev/timer/nv41.c nv41_timer_init";
    /// Crystal multiplier.
    MULTIPLIER = 0x009220, Rw, "K61 nvkm/subdev/timer/nv41.c nv41_timer_init";
    /// Time, low word; steps of 32 ns.
    TIME_0 = 0x009400, Rw, "K61 nvkm/subdev/timer/nv04.c nv04_timer_read";
    /// Time, high word.
    TIME_1 = 0x009410, Rw, "K61 nvkm/subdev/timer/nv04.c nv04_timer_read";
    /// The low word of the time at which the alarm goes off.
    ALARM = 0x009420, Rw, "K61 nvkm/subdev/timer/nv04.c nv04_timer_alarm_init";
}
