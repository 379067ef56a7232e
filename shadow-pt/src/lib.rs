//! Shadow page tables: what a guest wrote into its GPU page tables, translated for the card.
//!
//! A guest's tables speak of its own video memory, from 0, and of its own RAM. The card never walks
//! them: it walks a [`Shadow`], a copy in the hypervisor's video memory in which each page is moved
//! into the VM's partition or into the VM's part of the bus, and each page that is not the VM's is
//! missing ([`Translation`]). The guest may change its tables at any time; the shadow follows at a
//! [`Shadow::sync`], by one of three [`Algorithm`]s that lead to the same tables at different cost.
//!
//! The card has one size of large pages for all. A guest that sets another one has tables that are
//! read as it says, and a shadow of small pages.
//!
//! The memories belong to the caller, who implements [`GuestTables`] and [`CardTables`], and who
//! locks: everything here works on one VM's state through `&mut`.
//!
//! # One sync
//!
//! 1. [`Shadow::sync`] brings the shadow up to date and returns a [`Report`] for the counters, and
//!    the tables to which the shadow no longer leads, [`Retired`].
//! 2. The caller flushes the card's TLB for [`Shadow::directory`].
//! 3. [`TablePool::release`] makes the retired tables' memory available again: before the flush the
//!    card might still walk them.
//! 4. If the report says `starved`, entries stayed empty for lack of memory. Step 3 may have given
//!    enough back for another sync to fill them.
//!
//! Accesses of a CPU to a BAR do not go through the card's tables but through the guest's, by a
//! [`Walker`].

mod guest;
mod part;
mod pool;
mod report;
mod shadow;
mod table;
mod tracker;
mod translation;
mod walk;

pub use guest::{CardTables, GuestAddress, GuestTables};
pub use pool::{PoolExhausted, Retired, TablePool};
pub use report::{Rejected, Report};
pub use shadow::{Algorithm, Shadow, Vm};
pub use tracker::{Epoch, Guarded, PageTimes, Patience, Round, Untracked, WriteTracker};
pub use translation::{RamRegion, Translation, TranslationError};
pub use walk::{AddressSpace, Mapping, Run, WalkError, Walker};
