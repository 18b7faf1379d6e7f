//! How long a call may wait.

use std::time::{Duration, Instant};

use crate::errno::{Errno, Result};

/// Longest wait that is measured; longer ones are for ever (30 years).
const LONGEST_MS: f64 = 1e12;

/// The moment at which a waiting call gives up.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    /// Do not wait at all.
    Now,
    /// Wait until this moment of the monotonic clock.
    At(Instant),
    /// Wait for ever.
    Never,
}

impl Deadline {
    /// A deadline `ms` milliseconds from now. Fractions count; a negative number means never.
    ///
    /// # Errors
    /// `EINVAL` for NaN.
    pub fn after_ms(ms: f64) -> Result<Self> {
        if ms.is_nan() {
            Err(Errno::INVALID)
        } else if !(0.0..=LONGEST_MS).contains(&ms) {
            Ok(Self::Never)
        } else if ms == 0.0 {
            Ok(Self::Now)
        } else {
            Ok(Self::At(Instant::now() + Duration::from_secs_f64(ms / 1e3)))
        }
    }

    /// Time left, zero when past; `None` means for ever.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(moment) => Some(moment.saturating_duration_since(Instant::now())),
            Self::Never => None,
        }
    }
}
