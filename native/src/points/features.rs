//! What a module can have too much of once it can be stopped: as a refusal names it, and what helps.

use super::options::Policy;

pub const LOCALS: &str = "a function with more than 50,000 locals once it can be stopped";
pub const BODY: &str = "a function of more than 7,654,321 bytes once it can be stopped";
pub const BYTES: &str = "more than 1 GiB once it can be stopped";
pub const TYPES: &str = "more than 1,000,000 types once it can be stopped";
pub const FUNCTIONS: &str = "more than 1,000,000 functions once it can be stopped";
pub const IMPORTS: &str = "more than 1,000,000 imports once it can be stopped";
pub const EXPORTS: &str = "more than 1,000,000 exports once it can be stopped";
pub const GLOBALS: &str = "more than 1,000,000 globals once it can be stopped";
pub const TABLES: &str = "more than 100 tables once it can be stopped";
/// Refused by [`super::cost`].
pub const VALUES: &str = "too many locals and operands across calls and loops";

/// Refused by [`super::decode`].
pub const OPERANDS: &str = "a function with so many operands";

/// Features that there are fewer of where there are fewer points.
const BY_POINTS: [&str; 6] = [LOCALS, BODY, BYTES, FUNCTIONS, VALUES, OPERANDS];
/// And those that only another module helps against.
const BY_MODULE: [&str; 5] = [TYPES, IMPORTS, EXPORTS, GLOBALS, TABLES];

/// What to do about a refused feature, if it is one of size.
#[must_use]
pub fn hint(feature: &str, policy: Policy) -> Option<&'static str> {
    if BY_POINTS.contains(&feature) {
        return Some(match policy {
            Policy::Call => "split its largest functions, or compile it with less inlining (-Os)",
            _ => "try --points call, which has fewer points, or compile it with less inlining (-Os)",
        });
    }
    BY_MODULE.contains(&feature).then_some("compile it into a smaller module; stable points add some of these")
}
