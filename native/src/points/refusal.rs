//! Why a module is not instrumented.

use std::fmt;

use wasmparser::WasmFeatures;

use super::{features, options::Policy};

/// A module that cannot be instrumented, with the place in its file that shows why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It uses something the pass does not cover.
    Unsupported { feature: &'static str, offset: usize },
    /// It is no valid module.
    Invalid { message: String, offset: usize },
}

impl Refusal {
    /// The stable code of the error that callers see.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "KEDGE_MODULE_UNSUPPORTED",
            Self::Invalid { .. } => "KEDGE_MODULE_INVALID",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self, policy: Policy) -> Option<&'static str> {
        const OURS: &str =
            "give the module as its author made it: this one was instrumented before, or uses Kedge's names";
        const OTHERS: &str = "compile it without this feature, e.g. with clang --target=wasm32-wasi and no -m options";
        match self {
            Self::Unsupported { feature, .. } if feature.contains("kedge") => Some(OURS),
            Self::Unsupported { feature, .. } => Some(features::hint(feature, policy).unwrap_or(OTHERS)),
            Self::Invalid { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { feature, offset } => write!(f, "the module uses {feature} (at byte {offset:#x})"),
            Self::Invalid { message, offset } => write!(f, "not a valid module: {message} (at byte {offset:#x})"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Result of the pass and its parts.
pub type Result<T> = std::result::Result<T, Refusal>;

impl From<wasmparser::Error> for Refusal {
    fn from(error: wasmparser::Error) -> Self {
        let offset = usize::try_from(error.offset()).unwrap_or(usize::MAX);
        match error.missing_wasm_feature() {
            Some(feature) => Self::Unsupported { feature: name(feature), offset },
            None => Self::Invalid { message: error.message().to_owned(), offset },
        }
    }
}

/// What the pass covers. The validator refuses everything else and names it.
#[must_use]
pub fn covered() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::GC_TYPES
}

/// Names that people know, for features that are not covered.
fn name(feature: WasmFeatures) -> &'static str {
    const NAMES: [(WasmFeatures, &str); 14] = [
        (WasmFeatures::EXCEPTIONS, "exception handling"),
        (WasmFeatures::LEGACY_EXCEPTIONS, "exception handling (legacy)"),
        (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything threads"),
        (WasmFeatures::THREADS, "threads"),
        (WasmFeatures::MEMORY64, "memory64"),
        (WasmFeatures::GC, "garbage collection"),
        (WasmFeatures::FUNCTION_REFERENCES, "typed function references"),
        (WasmFeatures::STACK_SWITCHING, "stack switching"),
        (WasmFeatures::RELAXED_SIMD, "relaxed SIMD"),
        (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
        (WasmFeatures::MEMORY_CONTROL, "memory control"),
        (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
        (WasmFeatures::COMPONENT_MODEL, "the component model"),
        (WasmFeatures::CUSTOM_DESCRIPTORS, "custom descriptors"),
    ];
    NAMES.iter().find(|(one, _)| feature.contains(*one)).map_or("a feature that is not standard yet", |(_, name)| name)
}
