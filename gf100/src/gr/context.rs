//! A channel's state in PGRAPH, and its form in the channel's memory.
//!
//! The state is one array of words with a fixed place for everything, so saving and loading are
//! copies, and every bit pattern is a state: a guest that scribbles over its context gets what it
//! wrote.
//!
//! In memory a header comes first. Its first words belong to the driver, which leaves there a list
//! of registers to be set when the context is loaded for the first time. Source: K61
//! `nvkm/engine/gr/gf100.c gf100_gr_chan_bind`, `nvkm/engine/gr/fuc/hub.fuc ctx_mmio_exec`.

use super::bits::{cond_mode, shared, twod};
use super::classes::{Class, METHOD_WORDS};
use super::mme::{self, Macro};
use crate::memory::{Client, Fault};
use crate::sm::{CONSTANT_BUFFERS, ConstantBuffer, SAMPLERS, TEXTURES};

/// Subchannels.
pub const SUBCHANNELS: usize = 8;

/// Stages that have bindings: five of 3D, and compute.
pub const STAGES: usize = 6;
/// The stage of compute.
pub const COMPUTE_STAGE: usize = 5;
/// Windows of 16 MiB that 32-bit global addresses are made of.
pub const GLOBAL_WINDOWS: usize = 256;

/// First word of each part of the state; the methods come first.
mod place {
    use super::{METHOD_WORDS, SUBCHANNELS, mme};

    /// The number of the class on each subchannel.
    pub const CLASSES: usize = METHOD_WORDS;
    /// The macro in flight.
    pub const MACRO: usize = CLASSES + SUBCHANNELS;
    /// Where macros start.
    pub const MACRO_STARTS: usize = MACRO + mme::STATE_WORDS;
    /// Code of the macro processor.
    pub const MACRO_CODE: usize = MACRO_STARTS + mme::MACROS;
    /// The transfer that inline data goes to.
    pub const PUSH: usize = MACRO_CODE + mme::CODE_WORDS;
    /// Constant buffers: address high, address low, bytes (0 for none).
    pub const CONSTANTS: usize = PUSH + super::Push::WORDS;
    /// Texture headers of the textures; [`super::BOUND`] or none.
    pub const TEXTURES: usize = CONSTANTS + super::STAGES * crate::sm::CONSTANT_BUFFERS * 3;
    /// Sampler headers of the samplers, likewise.
    pub const SAMPLERS: usize = TEXTURES + super::STAGES * crate::sm::TEXTURES;
    /// The map of 32-bit global addresses.
    pub const GLOBAL_WINDOWS: usize = SAMPLERS + super::STAGES * crate::sm::SAMPLERS;
    /// All of it.
    pub const END: usize = GLOBAL_WINDOWS + super::GLOBAL_WINDOWS;
}

/// Bytes of the header, as the built-in firmware of nouveau has it.
const HEADER: usize = 0x100;
/// Bytes of a context in memory.
pub const SIZE: u32 = (HEADER + place::END * 4).next_multiple_of(0x100) as u32;

/// Words of the header.
mod header {
    /// Registers in the list that the built-in firmware executes.
    pub const MMIO_COUNT: usize = 0;
    /// Virtual address of that list >> 8.
    pub const MMIO_ADDRESS: usize = 1;
    /// The same for NVIDIA's firmware: registers, then the address in two words.
    pub const EXTERNAL_MMIO_COUNT: usize = 4;
    pub const EXTERNAL_MMIO_ADDRESS: usize = 5;
    /// [`super::MAGIC`]: the card has saved a context here.
    pub const MAGIC: usize = 0x20;
    /// [`super::VERSION`].
    pub const VERSION: usize = 0x21;
}

/// "GRCX".
const MAGIC: u32 = u32::from_le_bytes(*b"GRCX");
/// Of the places above.
const VERSION: u32 = 1;
/// Registers that a list may have: as many as fit the page that drivers give it.
const MMIO_LIST_MAX: u32 = 0x1000 / 8;

/// Flag of a binding that is not empty.
const BOUND: u32 = 1 << 31;

/// What a stage reads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A texture, by its header in the table of textures.
    Texture,
    /// A sampler, by its header in the table of samplers.
    Sampler,
}

impl Binding {
    /// Where slot `index` of a stage is kept; `None` if there is no such slot.
    fn place(self, stage: usize, index: u32) -> Option<usize> {
        let (first, count) = match self {
            Binding::Texture => (place::TEXTURES, TEXTURES),
            Binding::Sampler => (place::SAMPLERS, SAMPLERS),
        };
        let index = index as usize;
        (stage < STAGES && index < count).then(|| first + stage * count + index)
    }
}

/// An M2MF transfer that waits for inline data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// It waits.
    pub active: bool,
    /// Lines that are done.
    pub line: u32,
    /// Bytes of the current line that are done.
    pub column: u32,
}

impl Push {
    const WORDS: usize = 3;
}

/// Which firmware's header a context has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// Nouveau's own.
    #[default]
    BuiltIn,
    /// NVIDIA's.
    External,
}

/// A register and the value that it gets when a context is loaded for the first time.
pub type RegisterWrite = (u32, u32);

/// The state of all classes.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    words: Box<[u32; place::END]>,
}

impl Context {
    /// The state after power-on.
    pub fn new() -> Self {
        let words = vec![0; place::END].into_boxed_slice();
        let mut new = Self {
            words: words.try_into().expect("a slice of that length"),
        };
        for class in [Class::ThreeD, Class::Compute] {
            new.set(class, shared::COND_MODE, cond_mode::ALWAYS);
        }
        new.set(Class::TwoD, twod::COND_MODE, cond_mode::ALWAYS);
        new
    }

    /// The last argument of a method, 0 for one that does not exist.
    #[inline]
    pub fn get(&self, class: Class, address: u16) -> u32 {
        class.slot(address).map_or(0, |slot| self.words[slot])
    }

    /// An address that two methods hold, the high word's first.
    pub fn address(&self, class: Class, high: u16) -> u64 {
        u64::from(self.get(class, high) & 0xff) << 32 | u64::from(self.get(class, high + 4))
    }

    /// Keeps the argument of a method; `false` if the class has no such method.
    #[inline]
    pub fn set(&mut self, class: Class, address: u16, data: u32) -> bool {
        match class.slot(address) {
            Some(slot) => {
                self.words[slot] = data;
                true
            }
            None => false,
        }
    }

    /// The number of the class that was bound to a subchannel, 0 if none was.
    #[inline]
    pub fn class_id(&self, subchannel: u8) -> u32 {
        self.words[place::CLASSES + usize::from(subchannel) % SUBCHANNELS]
    }

    /// Binds a class.
    pub fn bind(&mut self, subchannel: u8, class: Class) {
        self.words[place::CLASSES + usize::from(subchannel) % SUBCHANNELS] = class.id();
    }

    /// Code of the macro processor.
    pub fn macro_code(&self) -> &[u32] {
        &self.words[place::MACRO_CODE..][..mme::CODE_WORDS]
    }

    /// Stores a word of it; beyond the end nothing happens.
    pub fn set_macro_code(&mut self, at: u32, word: u32) {
        let code = &mut self.words[place::MACRO_CODE..][..mme::CODE_WORDS];
        if let Some(slot) = code.get_mut(at as usize) {
            *slot = word;
        }
    }

    /// Where a macro starts; `None` if there is no such macro.
    pub fn macro_start(&self, number: usize) -> Option<u32> {
        (number < mme::MACROS).then(|| self.words[place::MACRO_STARTS + number])
    }

    /// Sets where a macro starts; `false` if there is no such macro.
    pub fn set_macro_start(&mut self, number: u32, start: u32) -> bool {
        let starts = &mut self.words[place::MACRO_STARTS..][..mme::MACROS];
        match starts.get_mut(number as usize) {
            Some(slot) => {
                *slot = start;
                true
            }
            None => false,
        }
    }

    /// The macro in flight.
    pub fn macro_in_flight(&self) -> Option<Macro> {
        let words = &self.words[place::MACRO..][..mme::STATE_WORDS];
        Macro::from_words(words.try_into().expect("a slice of that length"))
    }

    /// Keeps the macro in flight.
    pub fn set_macro_in_flight(&mut self, running: Option<&Macro>) {
        let words = running.map_or([0; mme::STATE_WORDS], Macro::to_words);
        self.words[place::MACRO..][..mme::STATE_WORDS].copy_from_slice(&words);
    }

    /// Binds header `entry` to a slot of a stage, or nothing; `false` if there is no such slot.
    pub fn set_binding(
        &mut self,
        kind: Binding,
        stage: usize,
        index: u32,
        entry: Option<u32>,
    ) -> bool {
        let Some(place) = kind.place(stage, index) else {
            return false;
        };
        self.words[place] = entry.map_or(0, |entry| entry & !BOUND | BOUND);
        true
    }

    /// Binds a constant buffer, or an empty one; `false` if there is no such slot.
    pub fn set_constants(&mut self, stage: usize, index: u32, buffer: ConstantBuffer) -> bool {
        let index = index as usize;
        if stage >= STAGES || index >= CONSTANT_BUFFERS {
            return false;
        }
        let at = place::CONSTANTS + (stage * CONSTANT_BUFFERS + index) * 3;
        let ConstantBuffer { address, size } = buffer;
        self.words[at..at + 3].copy_from_slice(&[(address >> 32) as u32, address as u32, size]);
        true
    }

    /// The constant buffers of a stage.
    pub fn constants(&self, stage: usize) -> [ConstantBuffer; CONSTANT_BUFFERS] {
        let first = place::CONSTANTS + stage * CONSTANT_BUFFERS * 3;
        std::array::from_fn(|index| {
            let words = &self.words[first + index * 3..][..3];
            ConstantBuffer {
                address: u64::from(words[0] & 0xff) << 32 | u64::from(words[1]),
                size: words[2],
            }
        })
    }

    /// The texture headers of a stage.
    pub fn textures(&self, stage: usize) -> [Option<u32>; TEXTURES] {
        let first = place::TEXTURES + stage * TEXTURES;
        std::array::from_fn(|index| bound(self.words[first + index]))
    }

    /// The sampler headers of a stage.
    pub fn samplers(&self, stage: usize) -> [Option<u32>; SAMPLERS] {
        let first = place::SAMPLERS + stage * SAMPLERS;
        std::array::from_fn(|index| bound(self.words[first + index]))
    }

    /// The map of 32-bit global addresses.
    pub fn global_windows(&self) -> &[u32; GLOBAL_WINDOWS] {
        let windows = &self.words[place::GLOBAL_WINDOWS..][..GLOBAL_WINDOWS];
        windows.try_into().expect("a slice of that length")
    }

    /// Remaps a window of 32-bit global addresses.
    pub fn set_global_window(&mut self, value: u32) {
        let window = (value >> 16) as usize % GLOBAL_WINDOWS;
        self.words[place::GLOBAL_WINDOWS + window] = value;
    }

    /// The transfer that inline data goes to.
    pub fn push(&self) -> Push {
        let words = &self.words[place::PUSH..][..Push::WORDS];
        Push {
            active: words[0] & 1 != 0,
            line: words[1],
            column: words[2],
        }
    }

    /// Changes it.
    pub fn set_push(&mut self, push: Push) {
        let words = [u32::from(push.active), push.line, push.column];
        self.words[place::PUSH..][..Push::WORDS].copy_from_slice(&words);
    }

    /// Loads the context at virtual address `at`. Where the card has saved none, or another
    /// version of it did, the state is that after power-on.
    ///
    /// Returns the registers to be set if this is the first load; the list is then struck off.
    ///
    /// # Errors
    ///
    /// The context cannot be reached; the state is unchanged.
    pub fn load(
        &mut self,
        client: &mut Client,
        at: u64,
        firmware: Firmware,
    ) -> Result<Vec<RegisterWrite>, Fault> {
        let mut image = vec![0; SIZE as usize];
        client.read(at, &mut image)?;
        let word = |index: usize| u32::from_le_bytes(bytes_of(&image, index));
        let (count, list) = match firmware {
            Firmware::BuiltIn => (
                header::MMIO_COUNT,
                u64::from(word(header::MMIO_ADDRESS)) << 8,
            ),
            Firmware::External => (
                header::EXTERNAL_MMIO_COUNT,
                u64::from(word(header::EXTERNAL_MMIO_ADDRESS))
                    | u64::from(word(header::EXTERNAL_MMIO_ADDRESS + 1)) << 32,
            ),
        };
        let mut writes = vec![0; word(count).min(MMIO_LIST_MAX) as usize * 8];
        if !writes.is_empty() {
            client.read(list, &mut writes)?;
            client.write(at + count as u64 * 4, &[0; 4])?;
        }
        if word(header::MAGIC) == MAGIC && word(header::VERSION) == VERSION {
            for (index, slot) in self.words.iter_mut().enumerate() {
                *slot = word(HEADER / 4 + index);
            }
        } else {
            *self = Self::new();
        }
        let pairs = (0..writes.len() / 8).map(|pair| {
            let word = |index| u32::from_le_bytes(bytes_of(&writes, index));
            (word(pair * 2), word(pair * 2 + 1))
        });
        Ok(pairs.collect())
    }

    /// Saves the context at virtual address `at`. The driver's part of the header stays.
    ///
    /// # Errors
    ///
    /// The memory cannot be reached.
    pub fn save(&self, client: &mut Client, at: u64) -> Result<(), Fault> {
        let from = header::MAGIC * 4;
        let mut image = Vec::with_capacity(SIZE as usize - from);
        image.extend(MAGIC.to_le_bytes());
        image.extend(VERSION.to_le_bytes());
        image.resize(HEADER - from, 0);
        image.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        client.write(at + from as u64, &image)
    }
}

/// The header that a binding names.
fn bound(word: u32) -> Option<u32> {
    (word & BOUND != 0).then_some(word & !BOUND)
}

/// Word `index` of `bytes`.
fn bytes_of(bytes: &[u8], index: usize) -> [u8; 4] {
    let word = &bytes[index * 4..][..4];
    [word[0], word[1], word[2], word[3]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::{Memory, PhysAddr, Privilege, Tables};

    const AT: u64 = 0x12_3450_0000;

    fn client() -> Client {
        let memory = Memory::new(8 << 20).unwrap();
        let mut tables = Tables::new(memory.clone(), 1 << 20);
        tables.map(AT, PhysAddr::vram(4 << 20), 1 << 20, false);
        let mut client = Client::new(memory, Privilege::System);
        client.bind(tables.instance()).unwrap();
        client
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_state_survives_a_switch(words in proptest::collection::vec(any::<u32>(), place::END)) {
            let mut client = client();
            let context = Context { words: words.into_boxed_slice().try_into().unwrap() };
            context.save(&mut client, AT).unwrap();
            let mut loaded = Context::new();
            let writes = loaded.load(&mut client, AT, Firmware::BuiltIn).unwrap();
            prop_assert!(loaded == context);
            prop_assert_eq!(writes, vec![]);
        }

        #[test]
        fn any_image_can_be_loaded(image in proptest::collection::vec(any::<u32>(), 64), external: bool) {
            let mut client = client();
            let bytes: Vec<u8> = image.iter().flat_map(|word| word.to_le_bytes()).collect();
            client.write(AT, &bytes).unwrap();
            let firmware = if external { Firmware::External } else { Firmware::BuiltIn };
            // Its list of registers is somewhere, mostly where nothing is.
            let _ = Context::new().load(&mut client, AT, firmware);
        }
    }

    #[test]
    fn memory_that_holds_no_context_gives_the_power_on_state() {
        let mut client = client();
        let mut context = Context::new();
        context.set(Class::ThreeD, 0x0d94, 5);
        context.save(&mut client, AT).unwrap();
        client
            .store(AT + header::VERSION as u64 * 4, VERSION + 1)
            .unwrap();
        context.load(&mut client, AT, Firmware::BuiltIn).unwrap();
        assert_eq!(context.get(Class::ThreeD, 0x0d94), 0);
    }

    #[test]
    fn the_list_of_registers_is_given_once() {
        let mut client = client();
        let list = AT + 0x8_0000;
        client.write(AT, &1u32.to_le_bytes()).unwrap();
        client.store(AT + 4, (list >> 8) as u32).unwrap();
        client.store(list, 0x0000_0009_0040_8004u64).unwrap();
        let mut context = Context::new();
        let first = context.load(&mut client, AT, Firmware::BuiltIn).unwrap();
        let second = context.load(&mut client, AT, Firmware::BuiltIn).unwrap();
        assert_eq!((first, second), (vec![(0x408004, 9)], vec![]));
    }

    #[test]
    fn slots_that_do_not_exist_take_no_binding() {
        let mut context = Context::new();
        assert!(context.set_binding(Binding::Sampler, COMPUTE_STAGE, 15, Some(1)));
        assert!(!context.set_binding(Binding::Sampler, COMPUTE_STAGE, 16, Some(1)));
        assert!(!context.set_binding(Binding::Texture, STAGES, 0, Some(1)));
        assert!(!context.set_constants(0, 18, ConstantBuffer::default()));
    }
}
