//! PPMU: the power management unit, beyond what every falcon has.

use crate::register::registers;

registers! { Ppmu, "PPMU";
    /// Host to PMU ring, put pointer.
    HOST_TO_PMU_PUT = 0x10a4a0, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_send";
    /// Host to PMU ring, get pointer.
    HOST_TO_PMU_GET = 0x10a4b0, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_send";
    /// PMU to host ring, put pointer.
    PMU_TO_HOST_PUT = 0x10a4c8, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_recv";
    /// PMU to host ring, get pointer.
    PMU_TO_HOST_GET = 0x10a4cc, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_recv";
    /// Host to PMU ring as the firmware announces it: size << 16 | base in data memory.
    HOST_TO_PMU_RING = 0x10a4d0, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_init";
    /// PMU to host ring, likewise.
    PMU_TO_HOST_RING = 0x10a4dc, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_init";
    /// Data memory mutex: the owner, 0 when free.
    DMEM_MUTEX = 0x10a580, Rw, "K61 nvkm/subdev/pmu/gt215.c gt215_pmu_send";
}
