//! Files and folders that do not outlive the program. They are removed when they are dropped, and when a signal
//! ends the program; those in the temporary folder that a killed program left, by the next that needs that folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All that is to be removed. It is locked while one of them is made or gets its lasting name, and by a signal from
/// then on to the end: so nothing is made that is not removed.
static ALL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file, or a folder with all in it, that is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary(Option<PathBuf>);

impl Temporary {
    /// What `make` makes, and where.
    pub fn make<T>(make: impl FnOnce() -> io::Result<(T, PathBuf)>) -> io::Result<(T, Temporary)> {
        let mut all = all();
        let (made, path) = make()?;
        all.push(path.clone());
        Ok((made, Temporary(Some(path))))
    }

    /// A folder in this one, whose name begins so.
    pub fn folder_in(parent: &Path, prefix: &str) -> io::Result<Temporary> {
        let make = || Ok(((), tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?.keep()));
        Temporary::make(make).map(|((), folder)| folder)
    }

    /// A folder of this process in the temporary folder.
    pub fn folder() -> io::Result<Folder> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let name = format!("{PREFIX}{}-", std::process::id());
        let folder = Temporary::folder_in(&parent, &name)?;
        let lock = File::create(folder.path().join(LOCK))?;
        match lock.try_lock() {
            Err(TryLockError::Error(e)) if e.kind() != ErrorKind::Unsupported => Err(e),
            _ => Ok(Folder { folder, _lock: lock }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_deref().expect("only what is kept or dropped has no path")
    }

    /// It stays.
    pub fn keep(mut self) {
        self.forget(&mut all());
    }

    /// It stays, under a name that another may have had.
    pub fn rename(mut self, to: &Path) -> io::Result<()> {
        let mut all = all();
        let renamed = fs::rename(self.path(), to);
        if renamed.is_ok() {
            self.forget(&mut all);
        }
        drop(all); // before `self`, which locks too
        renamed
    }

    fn forget(&mut self, all: &mut Vec<PathBuf>) {
        if let Some(path) = self.0.take() {
            all.retain(|other| *other != path);
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let mut all = all();
            remove(path);
            self.forget(&mut all);
        }
    }
}

/// A folder for temporary files, and what says that its owner lives.
#[derive(Debug)]
pub struct Folder {
    folder: Temporary,
    _lock: File,
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

const PREFIX: &str = "decode-bench-";
/// Locked by the owner as long as it lives: a process number means nothing in another container.
const LOCK: &str = "owner";

/// Removes the folders whose owner is gone. Those of other users cannot be opened, and stay.
fn remove_abandoned(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let lock = File::open(folder.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            remove(&folder.path());
        }
    }
}

/// As well as it can be: there is nobody to tell. A folder into which somebody still writes takes more than one try.
fn remove(path: &Path) {
    for _ in 0..10 {
        let gone = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(_) => return,
        };
        if gone.is_ok() {
            return;
        }
    }
}

/// Until this is dropped no signal ends the program. If one is about to, this call does not return: what went wrong
/// meanwhile went wrong because of it. This thread may neither make nor drop anything temporary meanwhile.
pub fn hold_signals() -> impl Drop {
    all()
}

/// From now on the signals that end a program first remove what is temporary. To be called before there is another
/// thread. A write that the limit on a file's size forbids is an error from now on, and no signal.
#[cfg(unix)]
pub fn remove_on_signals() {
    // SAFETY: this signal's action is nobody else's, and to ignore it needs no handler
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let ending = signals::ending();
    signals::mask(libc::SIG_BLOCK, &ending);
    let wait = move || end_by(signals::wait(&ending));
    if std::thread::Builder::new().name("signals".into()).spawn(wait).is_err() {
        signals::mask(libc::SIG_UNBLOCK, &ending); // without a thread to wait for them they end it as ever
    }
}

/// Removes what is temporary, and ends the program as this signal ends one that knows nothing of it: a shell that
/// runs it in a loop sees that, and ends the loop.
#[cfg(unix)]
pub fn end_by(signal: i32) -> ! {
    let all = all();
    all.iter().for_each(|path| remove(path));
    signals::raise(signal)
}

#[cfg(not(unix))]
pub fn remove_on_signals() {}

#[cfg(unix)]
mod signals {
    use std::mem::MaybeUninit;
    use std::ptr::{null, null_mut};

    /// Ctrl-C, the usual `kill`, and the end of the terminal, unless `nohup` has it ignored.
    pub fn ending() -> libc::sigset_t {
        let mut signals = vec![libc::SIGINT, libc::SIGTERM];
        let mut found = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: nothing is set; the system fills the structure, of which zeros are valid too
        let hangup =
            unsafe { (libc::sigaction(libc::SIGHUP, null(), found.as_mut_ptr()), found.assume_init()) };
        if hangup.0 == 0 && hangup.1.sa_sigaction != libc::SIG_IGN {
            signals.push(libc::SIGHUP);
        }
        set(&signals)
    }

    fn set(signals: &[i32]) -> libc::sigset_t {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the first call makes it a set, and the numbers are signals
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        }
    }

    /// Of this thread, and of the threads and programs that it starts from now on.
    pub fn mask(how: i32, set: &libc::sigset_t) {
        // SAFETY: the set is one, and the old one is not asked for
        unsafe { libc::pthread_sigmask(how, set, null_mut()) };
    }

    /// The first of them that comes.
    pub fn wait(set: &libc::sigset_t) -> i32 {
        let mut signal = 0;
        // SAFETY: both point to what they say; the signals are blocked in all threads
        while unsafe { libc::sigwait(set, &mut signal) } != 0 {}
        signal
    }

    /// Ends the program by the signal's own action.
    pub fn raise(signal: i32) -> ! {
        // SAFETY: the action is the system's, there is no handler to race with
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        mask(libc::SIG_UNBLOCK, &set(&[signal]));
        // SAFETY: neither touches memory; the second is for a signal that does not end a program
        unsafe {
            libc::raise(signal);
            libc::_exit(128 + signal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &Path) -> Temporary {
        Temporary::make(|| Ok((fs::write(path, "text")?, path.into()))).unwrap().1
    }

    #[test]
    fn what_is_temporary_goes_and_what_is_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [dropped, kept, renamed, last] = ["a", "b", "c", "d"].map(|name| folder.path().join(name));
        drop(made(&dropped));
        made(&kept).keep();
        made(&renamed).rename(&last).unwrap();
        assert!(made(&renamed).rename(&folder.path().join("none/e")).is_err());
        assert_eq!([&dropped, &kept, &renamed, &last].map(|path| path.exists()), [false, true, false, true]);
        assert!(all().is_empty() || !all().iter().any(|path| path.starts_with(folder.path())));
    }

    #[test]
    fn a_folder_goes_with_its_owner_or_with_the_next_to_come() {
        let parent = tempfile::tempdir().unwrap();
        let named = |name: &str, lock: bool| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("weights"), "many").unwrap();
            let file = lock.then(|| File::create(path.join(LOCK)).unwrap());
            (path, file)
        };
        let (abandoned, lock) = named("decode-bench-1-a", true);
        drop(lock);
        let (owned, lock) = named("decode-bench-2-b", true);
        lock.as_ref().unwrap().try_lock().unwrap();
        let (others, _) = named("decode-bench-notes", false);
        let (named_otherwise, _) = named("something", true);
        remove_abandoned(parent.path());
        assert!(!abandoned.exists());
        assert!([owned, others, named_otherwise].iter().all(|folder| folder.join("weights").exists()));
    }
}
