//! The orderings that correctness rests on, by name, so that the loom model can take each of them away and
//! must then find a failure. In a normal build this is nothing but the ordering itself.

use std::sync::atomic::Ordering;

/// Where an ordering stronger than relaxed is needed, and what it pairs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Spot {
    /// Producer: a record's bytes are written. Pairs with [`Spot::TakeLoad`].
    Commit = 1,
    /// Consumer: a record's slot. Pairs with [`Spot::Commit`].
    TakeLoad = 2,
    /// Consumer: bytes were read and are given back. Pairs with [`Spot::ReleasedLoad`].
    ReleasedStore = 3,
    /// Producer: what was given back. Pairs with [`Spot::ReleasedStore`].
    ReleasedLoad = 4,
    /// Producer: the claim. Pairs with [`Spot::SleepClaim`].
    ClaimTaken = 5,
    /// Consumer: the claim is looked at after the flag was raised. Pairs with [`Spot::ClaimTaken`].
    SleepClaim = 6,
    /// A waiter: the demand. Pairs with [`Spot::SleepDemand`].
    DemandRaised = 7,
    /// Consumer: the demand is looked at after the flag was raised. Pairs with [`Spot::DemandRaised`].
    SleepDemand = 8,
    /// A watermark moves. Pairs with [`Spot::WatermarkLoad`].
    WatermarkStore = 9,
    /// Where a watermark stands. Pairs with [`Spot::WatermarkStore`].
    WatermarkLoad = 10,
    /// A flag goes up. Pairs with [`Spot::FlagTaken`].
    FlagRaised = 11,
    /// A flag is taken down. Pairs with [`Spot::FlagRaised`].
    FlagTaken = 12,
    /// Writer of several words: their number is odd before one of them changes. Pairs with
    /// [`Spot::WordsRead`].
    WordsChange = 13,
    /// Writer of several words: their number is even when all have changed. Pairs with
    /// [`Spot::WordsLooked`].
    WordsChanged = 14,
    /// Reader of several words: their number before. Pairs with [`Spot::WordsChanged`].
    WordsLooked = 15,
    /// Reader of several words: their number afterwards. Pairs with [`Spot::WordsChange`].
    WordsRead = 16,
}

impl Spot {
    /// All of them. loom sees every one.
    pub const ALL: [Spot; 16] = [
        Spot::Commit,
        Spot::TakeLoad,
        Spot::ReleasedStore,
        Spot::ReleasedLoad,
        Spot::ClaimTaken,
        Spot::SleepClaim,
        Spot::DemandRaised,
        Spot::SleepDemand,
        Spot::WatermarkStore,
        Spot::WatermarkLoad,
        Spot::FlagRaised,
        Spot::FlagTaken,
        Spot::WordsChange,
        Spot::WordsChanged,
        Spot::WordsLooked,
        Spot::WordsRead,
    ];
}

/// The ordering at a spot.
#[cfg(not(loom))]
#[inline(always)]
pub const fn at(_spot: Spot, strong: Ordering) -> Ordering {
    strong
}

/// The ordering at a spot: relaxed where the model has taken it away.
#[cfg(loom)]
pub fn at(spot: Spot, strong: Ordering) -> Ordering {
    match WEAKENED.load(Ordering::SeqCst) == spot as u32 {
        true => Ordering::Relaxed,
        false => strong,
    }
}

/// The number of the spot that is taken away; 0 for none. One model runs at a time.
#[cfg(loom)]
pub static WEAKENED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
