//! PGRAPH, the copy engines and PMU of a guest: units that the aggregator brought up, as a driver
//! wants to find them.

use mmio::Hit;
use mmio::layout::instance;
use mmio::regs::falcon::{self, offset};
use mmio::regs::{pce, pgraph, pmc, ppmu};
use shadow_pt::AddressSpace;

use super::VirtualGpu;
use crate::aggregator::HostMethod;

/// The address in the pointer to a context.
const CONTEXT_ADDRESS: u64 = 0xff_ffff_ff00;
/// Methods of a first context that are kept; drivers send some thousand.
const MOST_METHODS: usize = 1 << 16;

/// Rings of 0x80 bytes behind PMU's own data.
const HOST_TO_PMU_RING: u32 = 0x80 << 16 | 0x500;
const PMU_TO_HOST_RING: u32 = 0x80 << 16 | 0x580;

/// Registers of PGRAPH.
pub const PGRAPH: std::ops::Range<u32> = 0x40_0000..0x60_0000;

impl VirtualGpu {
    /// A store to a register of PGRAPH; `false` where storage is all there is to it.
    pub(super) fn graph_store(&self, at: Hit, value: u32) -> bool {
        let id = at.register.id;
        let scratch = pgraph::FECS_SCRATCH.offset() + 4 * at.index;
        match id {
            pgraph::INTR => {
                self.file.clear(id.offset(), value);
                self.next_engaged(pmc::Intr::PGRAPH);
            }
            pgraph::INTR_EN => {
                self.file.write(id.offset(), value);
                self.refresh_line(pmc::Intr::PGRAPH);
            }
            pgraph::DISPATCH_TRAP
            | pgraph::MACRO_TRAP
            | pgraph::M2MF_TRAP
            | pgraph::SHADER_TRAP
            | pgraph::CCACHE_TRAP => {
                let errors = match value & pgraph::TRAP_RESET {
                    0 => self.file.read(id.offset()) & !pgraph::TRAP_ENABLE,
                    _ => 0,
                };
                self.file
                    .write(id.offset(), errors | value & pgraph::TRAP_ENABLE);
            }
            pgraph::FE_PWR_MODE => self
                .file
                .write(id.offset(), value & !pgraph::PWR_MODE_PENDING),
            pgraph::FE_MTHD => self.record(value),
            pgraph::FECS_WRCMD_CMD => self.fecs_command(value),
            pgraph::FECS_SCRATCH_SET => self.file.set(scratch, value),
            pgraph::FECS_SCRATCH_CLR => self.file.clear(scratch, value),
            pgraph::FECS_INTR_UP_ACK => self.file.clear(pgraph::FECS_INTR_UP.offset(), value),
            id => match id.offset().wrapping_sub(falcon::FECS) {
                offset::UC_CTRL if value & falcon::START != 0 => self.fecs_start(),
                offset::INTR_SET if value & falcon::CHANNEL_SWITCH != 0 => self.fecs_switch(),
                _ => return false,
            },
        }
        true
    }

    /// A method from the host side: part of the first context.
    fn record(&self, value: u32) {
        if value & pgraph::FE_MTHD_GO != 0 {
            let data = self.file.read(pgraph::FE_MTHD_DATA.offset());
            let mut methods = self.methods.lock();
            if methods.len() < MOST_METHODS {
                methods.push((value, data));
            }
        }
    }

    /// The firmware comes up.
    fn fecs_start(&self) {
        let scratch = pgraph::FECS_SCRATCH.offset();
        self.file.write(scratch + 4, self.host.context_size());
        self.file.set(scratch, pgraph::FECS_READY);
    }

    fn fecs_command(&self, command: u32) {
        let data = self.file.read(pgraph::FECS_WRCMD_DATA.offset());
        match command {
            pgraph::FECS_SET_CHANNEL => {
                for register in [pgraph::FECS_CHAN, pgraph::FECS_CHAN_NEXT] {
                    self.file
                        .write(register.offset(), data | pgraph::FECS_CHAN_VALID);
                }
            }
            pgraph::FECS_SAVE => self.build_context(),
            // The firmware that drivers bring for this chip knows no other; it says nothing then.
            _ => return,
        }
        self.file
            .set(pgraph::FECS_SCRATCH.offset(), pgraph::FECS_READY);
    }

    /// A switch that the driver asked for: the current context is saved.
    fn fecs_switch(&self) {
        let next = self.file.read(pgraph::FECS_CHAN_NEXT.offset());
        self.build_context();
        self.file.write(pgraph::FECS_CHAN.offset(), next);
    }

    /// Has the first context where the current instance block wants it: the one that all machines get,
    /// or one that the card makes of what was recorded.
    fn build_context(&self) {
        let word = self.file.read(pgraph::FECS_CHAN.offset());
        if word & pgraph::FECS_CHAN_VALID == 0 {
            return;
        }
        let methods: Vec<HostMethod> = std::mem::take(&mut *self.methods.lock());
        let address = u64::from(word & 0x0fff_ffff) << 12;
        let Some(guest) = self.partition.vram(address, instance::SIZE) else {
            return;
        };
        let vram = self.host.vram();
        let mut block = [0; instance::SIZE as usize];
        self.host.fetch(guest, &mut block);
        let base = vram.load_wide(guest + instance::PAGE_DIR_BASE);
        if let Some(context) = self.host.first_context() {
            let limit = vram.load_wide(guest + instance::ADDR_LIMIT);
            let at = vram.load_wide(guest + instance::GR_CONTEXT) & CONTEXT_ADDRESS;
            if let Some(space) = AddressSpace::new(base, limit, self.geometry()) {
                self.store_virtual(space, at, context);
            }
            return;
        }
        let mut memory = self.memory.lock();
        let Some((directory, shadow)) = memory.attach(&self.around(), base) else {
            return;
        };
        let copy = self.host.layout().context_instance(self.vm());
        vram.write(copy, &block);
        vram.store_wide(copy + instance::PAGE_DIR_BASE, shadow);
        if !self.host.build_context(copy, methods.into_iter()) {
            tracing::debug!("The card does not save the first context of {}", self.vm());
        }
        memory.detach(&self.host, directory, true);
    }

    /// A store to a register of a copy engine.
    pub(super) fn copy_store(&self, at: Hit, value: u32) -> bool {
        let register = at.register.offset_of(at.index);
        let base = register & !(falcon::SIZE - 1);
        let line = match base {
            falcon::CE0 => pmc::Intr::CE0,
            _ => pmc::Intr::CE1,
        };
        match register - base {
            offset::INTR_ACK => {
                self.file.clear(base + offset::INTR, value);
                self.next_engaged(line);
            }
            offset::UC_CTRL if value & falcon::START != 0 => {
                // What the firmware does first; a driver looks only at what goes to the host.
                self.file
                    .write(base + offset::INTR_DISPATCH, pce::INTR_DISPATCH_VALUE);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// A store to a register of PMU: starting it announces its rings, and it takes all messages.
    pub(super) fn pmu_store(&self, at: Hit, value: u32) -> bool {
        match at.register.id {
            ppmu::HOST_TO_PMU_PUT => self.file.write(ppmu::HOST_TO_PMU_GET.offset(), value),
            id if id.offset() == falcon::PMU + offset::UC_CTRL && value & falcon::START != 0 => {
                self.file
                    .write(ppmu::HOST_TO_PMU_RING.offset(), HOST_TO_PMU_RING);
                self.file
                    .write(ppmu::PMU_TO_HOST_RING.offset(), PMU_TO_HOST_RING);
            }
            _ => {}
        }
        false
    }

    /// Pending bits of an engine's own interrupt.
    pub(super) fn pending(&self, line: pmc::Intr) -> u32 {
        match line {
            pmc::Intr::CE0 => self.file.read(falcon::CE0 + offset::INTR),
            pmc::Intr::CE1 => self.file.read(falcon::CE1 + offset::INTR),
            _ => self.file.read(pgraph::INTR.offset()),
        }
    }

    /// Brings the line of an engine up to date with what the guest stored.
    pub(super) fn refresh_line(&self, line: pmc::Intr) {
        let _events = self.events.lock();
        self.update_line(line);
    }

    /// Likewise, with the lock of the events held: the last one who does so sees what all did.
    pub(super) fn update_line(&self, line: pmc::Intr) {
        let enabled = match line {
            pmc::Intr::PGRAPH => self.file.read(pgraph::INTR_EN.offset()),
            // The firmware enables what it raises.
            _ => u32::MAX,
        };
        self.interrupts.set(line, self.pending(line) & enabled != 0);
    }

    /// What copy engines show after a reset.
    pub(super) fn describe_falcons(&self) {
        for base in [falcon::CE0, falcon::CE1] {
            self.file.write(base + offset::UC_CAPS, pce::UC_CAPS_VALUE);
            self.file
                .write(base + offset::UC_CAPS2, pce::UC_CAPS2_VALUE);
        }
    }

    /// PGRAPH of this guest is as after power-on.
    pub(super) fn reset_graph(&self) {
        self.methods.lock().clear();
        self.falcons.reset(PGRAPH);
        self.file.reset(PGRAPH);
        self.refresh_line(pmc::Intr::PGRAPH);
    }
}
