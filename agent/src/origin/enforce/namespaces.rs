//! Diagnostic sockets in other processes' network namespaces.

#![forbid(unsafe_code)]

use super::diag::Diag;
use crate::origin::bpf::netns_cookie_of;
use nix::sched::{CloneFlags, setns};
use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

/// Sockets kept. Each holds its namespace, also when the pod is gone ...
const KEPT: usize = 32;
/// ... so for no longer than this after the last use.
const IDLE: Duration = Duration::from_secs(10);

/// A diagnostic socket and the namespace it is in.
#[derive(Debug)]
pub(super) struct Room {
    /// Inode of the namespace, its name as long as it lives.
    inode: u64,
    /// `SO_NETNS_COOKIE`, Linux 5.14.
    cookie: Option<u64>,
    pub(super) diag: Diag,
    used: Instant,
}

impl Room {
    /// Whether this is the namespace with that cookie; `None` when the kernel or the asker does not know.
    pub(super) fn is(&self, cookie: u64) -> Option<bool> {
        self.cookie.filter(|_| cookie != 0).map(|own| own == cookie)
    }
}

/// Enters namespaces and keeps a few of the sockets opened there.
#[derive(Debug)]
pub(super) struct Namespaces {
    home: File,
    rooms: Vec<Room>,
}

/// Why a namespace could not be entered.
#[derive(Debug)]
pub(super) enum NoEntry {
    /// This one could not.
    Here(io::Error),
    /// The way back is barred: nothing more can be done.
    Lost(io::Error),
}

impl Namespaces {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { home: File::open("/proc/self/ns/net")?, rooms: Vec::new() })
    }

    /// The kept socket of the namespace with this cookie.
    pub(super) fn known(&mut self, cookie: u64) -> Option<&mut Room> {
        let room = self.rooms.iter_mut().find(|room| room.is(cookie) == Some(true))?;
        room.used = Instant::now();
        Some(room)
    }

    /// The socket in the namespace of process `pid`, unless that is one of `tried`.
    pub(super) fn of_process(
        &mut self,
        pid: u32,
        tried: &mut Vec<u64>,
    ) -> Result<Option<&mut Room>, NoEntry> {
        let file = File::open(format!("/proc/{pid}/ns/net")).map_err(NoEntry::Here)?;
        let inode = file.metadata().map_err(NoEntry::Here)?.ino();
        if tried.contains(&inode) {
            return Ok(None);
        }
        tried.push(inode);
        let at = match self.rooms.iter().position(|room| room.inode == inode) {
            Some(at) => at,
            None => self.open(&file, inode)?,
        };
        let room = &mut self.rooms[at];
        room.used = Instant::now();
        Ok(Some(room))
    }

    fn open(&mut self, file: &File, inode: u64) -> Result<usize, NoEntry> {
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| NoEntry::Here(errno.into()))?;
        let opened = Diag::open();
        setns(&self.home, CloneFlags::CLONE_NEWNET).map_err(|errno| NoEntry::Lost(errno.into()))?;
        let diag = opened.map_err(|errno| NoEntry::Here(errno.into()))?;
        let cookie = netns_cookie_of(&diag).ok();
        if self.rooms.len() >= KEPT {
            let oldest = (0..self.rooms.len()).min_by_key(|&at| self.rooms[at].used);
            if let Some(oldest) = oldest {
                self.rooms.swap_remove(oldest);
            }
        }
        self.rooms.push(Room { inode, cookie, diag, used: Instant::now() });
        Ok(self.rooms.len() - 1)
    }

    /// Closes the socket in the namespace with this inode: it does not answer as it should.
    pub(super) fn forget(&mut self, room: u64) {
        self.rooms.retain(|kept| kept.inode != room);
    }

    /// Lets go of namespaces that were not used for a while, and says how long the next one may stay.
    pub(super) fn expire(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.rooms.retain(|room| now.duration_since(room.used) < IDLE);
        self.rooms.iter().map(|room| IDLE.saturating_sub(now.duration_since(room.used))).min()
    }
}

impl Room {
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }
}
