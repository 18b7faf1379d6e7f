//! Times and space of files.

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, symlink},
    },
    path::PathBuf,
    process,
    time::SystemTime,
};

use kedge_native::{
    errno::Errno,
    file::{Time, allocate, set_times},
};

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("kedge-file-{}-{name}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> CString {
        CString::new(self.0.join(name).into_os_string().into_string().unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn at(seconds: i64, nanoseconds: u32) -> Time {
    Time::At { seconds, nanoseconds }
}

#[test]
fn times_are_set_to_the_nanosecond_and_one_without_the_other() {
    let folder = Folder::new("times");
    let (file, link) = (folder.0.join("file"), folder.0.join("link"));
    File::create(&file).unwrap();
    symlink("file", &link).unwrap();
    let path = folder.path("file");
    let times = |name| {
        let found = fs::symlink_metadata(name).unwrap();
        [found.atime(), found.atime_nsec(), found.mtime(), found.mtime_nsec()]
    };
    set_times(&path, true, at(5, 1), at(1_234_567_890, 123_456_789)).unwrap();
    assert_eq!(times(&file), [5, 1, 1_234_567_890, 123_456_789]);
    set_times(&path, true, Time::Keep, at(9, 4)).unwrap();
    assert_eq!(times(&file), [5, 1, 9, 4]);
    set_times(&path, false, Time::Keep, Time::Keep).unwrap();
    assert_eq!(times(&file), [5, 1, 9, 4]);
    set_times(&folder.path("link"), false, at(100, 0), at(100, 0)).unwrap();
    assert_eq!(times(&file), [5, 1, 9, 4]);
    assert_eq!(times(&link), [100, 0, 100, 0]);
    set_times(&folder.path("link"), true, Time::Now, Time::Keep).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(i64::try_from(now).unwrap() - times(&file)[0] < 60);
    assert_eq!(times(&file)[2..], [9, 4]);
    // UTIME_OMIT as a number of nanoseconds is no time.
    assert_eq!(set_times(&path, true, at(1, (1 << 30) - 2), Time::Keep), Err(Errno::INVALID));
    assert_eq!(set_times(&folder.path("nothing"), true, Time::Now, Time::Now), Err(Errno(libc::ENOENT)));
}

#[test]
fn space_is_reserved_and_a_file_never_shrinks() {
    let folder = Folder::new("space");
    let file = File::create(folder.0.join("file")).unwrap();
    let fd = file.as_raw_fd();
    match allocate(fd, 1000, 1 << 20) {
        Err(error) => assert_eq!(error, Errno(libc::EOPNOTSUPP)),
        Ok(()) => {
            let found = file.metadata().unwrap();
            assert_eq!(found.len(), 1000 + (1 << 20));
            assert!(found.blocks() * 512 >= 1 << 20);
            allocate(fd, 0, 1).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1000 + (1 << 20));
        }
    }
    assert_eq!(allocate(fd, 0, 0), Err(Errno::INVALID));
    assert_eq!(allocate(-1, 0, 1), Err(Errno::BAD_DESCRIPTOR));
}
