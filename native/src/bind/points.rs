use std::collections::HashSet;

use napi::{
    Env,
    bindgen_prelude::{Result, Status, Uint8Array},
};
use napi_derive::napi;

use super::error_with;
use crate::points::{
    self,
    options::{Flag, Options, Place, Policy},
};

/// What the pass may be told. Everything may be left out.
#[napi(object)]
pub struct InstrumentOptions {
    /// `call`, `function`, `loop` (default), `loop-all` or `instruction`.
    pub policy: Option<String>,
    /// `memory` (default), `global` or `count`.
    pub flag: Option<String>,
    /// Imports that can suspend, as `module.name`; all of them when left out.
    pub suspending: Option<Vec<String>>,
    /// Function index and offset in turn, of further points that can be entered.
    pub entries: Option<Vec<u32>>,
}

/// Writes the instrumented form of a module. Errors are those of [`points::refusal::Refusal`], with its `code`, and a `hint` where there is one.
#[napi]
pub fn instrument(env: Env, module: Uint8Array, options: Option<InstrumentOptions>) -> Result<Uint8Array> {
    // A copy: the module's bytes may be shared with a thread that writes to them.
    let bytes = module.to_vec();
    let options = parsed(options)?;
    match points::instrument(&bytes, &options) {
        Ok(out) => Ok(out.into()),
        Err(refusal) => {
            let mut properties = vec![("code", refusal.code())];
            properties.extend(refusal.hint(options.policy).map(|hint| ("hint", hint)));
            Err(error_with(env, &refusal.to_string(), &properties))
        }
    }
}

fn parsed(options: Option<InstrumentOptions>) -> Result<Options> {
    let mut parsed = Options::default();
    let Some(options) = options else { return Ok(parsed) };
    let invalid = |what: &str| napi::Error::new(Status::InvalidArg, format!("unknown {what}"));
    if let Some(name) = options.policy {
        parsed.policy = Policy::from_name(&name).ok_or_else(|| invalid("policy"))?;
    }
    if let Some(name) = options.flag {
        parsed.flag = Flag::from_name(&name).ok_or_else(|| invalid("flag"))?;
    }
    parsed.suspending = options.suspending.map(|list| list.into_iter().collect::<HashSet<String>>());
    if let Some(entries) = options.entries {
        parsed.entries = entries.chunks_exact(2).map(|pair| Place { function: pair[0], offset: pair[1] }).collect();
    }
    Ok(parsed)
}
