use std::ffi::CString;

use napi_derive::napi;

use super::{
    args::{Fd, size},
    number,
};
use crate::{
    errno::{Errno, Result},
    file::{self, Time},
};

const KEEP: i32 = -1;
const NOW: i32 = -2;

fn signed(value: f64) -> Result<i64> {
    i64::try_from(size(value)?).map_err(|_| Errno::INVALID)
}

fn time(seconds: f64, nanoseconds: i32) -> Result<Time> {
    match nanoseconds {
        KEEP => Ok(Time::Keep),
        NOW => Ok(Time::Now),
        other => {
            let nanoseconds = u32::try_from(other).map_err(|_| Errno::INVALID)?;
            Ok(Time::At { seconds: signed(seconds)?, nanoseconds })
        }
    }
}

#[napi]
pub fn file_set_times(
    path: String,
    follow: bool,
    accessed: f64,
    accessed_nanoseconds: i32,
    modified: f64,
    modified_nanoseconds: i32,
) -> i32 {
    let set = || -> Result<()> {
        let path = CString::new(path).map_err(|_| Errno::INVALID)?;
        let accessed = time(accessed, accessed_nanoseconds)?;
        file::set_times(&path, follow, accessed, time(modified, modified_nanoseconds)?)
    };
    number(set())
}

#[napi]
pub fn file_allocate(fd: Fd, offset: f64, length: f64) -> i32 {
    let allocate = || file::allocate(fd.0, signed(offset)?, signed(length)?);
    number(allocate())
}
