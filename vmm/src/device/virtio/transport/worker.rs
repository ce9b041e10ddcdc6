//! The thread that a device works on while its driver uses it and the machine runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::rest::Stop;
use crate::device::virtio::{Broken, Queues, VirtioDevice};

/// Stack of a worker: buffers of guests never go there.
const STACK_BYTES: usize = 128 << 10;
/// Events taken at a time.
const BATCH: usize = 16;
/// The wish to stop, as epoll's token. Queues have their number from 0 on, a device's own descriptors follow.
const STOP: u64 = u64::MAX;

/// A device and its queues: what a worker works on, and what is left when it rests.
#[derive(Debug)]
pub(super) struct Live<D> {
    pub device: D,
    pub queues: Queues,
}

impl<D: VirtioDevice> Live<D> {
    /// Looks into every queue in use.
    pub(super) fn serve_all(&mut self) {
        for queue in 0..self.queues.count() {
            self.serve(queue);
        }
    }

    /// Completes what was begun, even if the device is given up: the guest's memory must be left alone after this.
    pub(super) fn drain(&mut self) {
        let was_given_up = self.queues.interrupt().needs_reset();
        match self.device.drain(&mut self.queues) {
            Err(broken) if !was_given_up => self.give_up(&broken),
            _ => {}
        }
    }

    fn give_up(&self, broken: &(dyn std::error::Error + 'static)) {
        self.queues.interrupt().give_up(self.device.id(), broken, true);
    }

    fn serve(&mut self, queue: usize) {
        if self.queues.get(queue).is_some() {
            self.attempt(|device, queues| device.queue_ready(queue, queues));
        }
    }

    /// Lets the device work, and gives up on it for good if its driver has broken a rule.
    fn attempt(&mut self, work: impl FnOnce(&mut D, &mut Queues) -> Result<(), Broken>) {
        if self.queues.interrupt().needs_reset() {
            return;
        }
        if let Err(broken) = work(&mut self.device, &mut self.queues) {
            self.give_up(&broken);
        }
    }
}

/// A thread that works on a [`Live`].
#[derive(Debug)]
pub(super) struct Worker<D> {
    stop: Stop,
    thread: JoinHandle<Live<D>>,
}

impl<D: VirtioDevice> Worker<D> {
    /// Moves `live` to a thread of its own. On failure it is given back.
    pub(super) fn start(
        live: Live<D>,
        name: &str,
        stop: &Stop,
        doorbells: &[Arc<EventFd>],
    ) -> Result<Self, (Live<D>, io::Error)> {
        let epoll = match watch(&live, stop, doorbells) {
            Ok(epoll) => epoll,
            Err(e) => return Err((live, e)),
        };
        stop.clear();
        // Handed over after the thread is there, so that it is not lost with a thread that could not be started.
        let (hand, take) = mpsc::sync_channel(1);
        let (stopped, doorbells) = (stop.clone(), doorbells.to_vec());
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let live = take.recv().expect("whoever starts the thread hands it a device");
            work(live, &epoll, &stopped, &doorbells)
        });
        match thread {
            Ok(thread) => {
                hand.send(live).expect("the thread waits for its device first of all");
                Ok(Self { stop: stop.clone(), thread })
            }
            Err(e) => Err((live, e)),
        }
    }

    /// Asks the thread to finish, without waiting.
    pub(super) fn ask(&self) {
        self.stop.ask();
    }

    /// Lets the thread go on that was asked to finish. False if it has finished already.
    pub(super) fn go_on(&self) -> bool {
        self.stop.take_back()
    }

    /// Waits until every request that was begun is answered and the thread is gone.
    pub(super) fn finish(self) -> Live<D> {
        self.ask();
        let live = match self.thread.join() {
            Ok(live) => live,
            // A panic in a device is a bug of ours; it must not be taken for a device at rest.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        self.stop.clear();
        live
    }
}

fn watch<D: VirtioDevice>(live: &Live<D>, stop: &Stop, doorbells: &[Arc<EventFd>]) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    let add = |fd: RawFd, token| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, token));
    add(stop.event.as_raw_fd(), STOP)?;
    for (token, fd) in (0..).zip(calls(live, doorbells)) {
        add(fd, token)?;
    }
    Ok(epoll)
}

/// A device that was given up is asked for nothing before its reset, which has the worker stop first. Whatever calls for
/// it meanwhile, a frame for example, would call for ever, and keep a CPU busy.
fn watch_no_more<D: VirtioDevice>(live: &Live<D>, epoll: &Epoll, doorbells: &[Arc<EventFd>]) {
    for fd in calls(live, doorbells) {
        // Fails only if it is not watched.
        let _ = epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default());
    }
}

/// Whatever calls for the device, by its token.
fn calls<D: VirtioDevice>(live: &Live<D>, doorbells: &[Arc<EventFd>]) -> Vec<RawFd> {
    let sources = live.device.sources();
    let sources = sources.iter().map(AsRawFd::as_raw_fd);
    doorbells.iter().map(|doorbell| doorbell.as_raw_fd()).chain(sources).collect()
}

fn work<D: VirtioDevice>(
    mut live: Live<D>,
    epoll: &Epoll,
    stop: &Stop,
    doorbells: &[Arc<EventFd>],
) -> Live<D> {
    loop {
        let can_go_on = serve_until_asked(&mut live, epoll, stop, doorbells);
        live.drain();
        // Else the wish was taken back meanwhile, because what was on its way took too long.
        if stop.rest(!can_go_on) {
            return live;
        }
    }
}

/// Serves the device until it is to rest. False if it can no longer be waited for what it is asked.
fn serve_until_asked<D: VirtioDevice>(
    live: &mut Live<D>,
    epoll: &Epoll,
    stop: &Stop,
    doorbells: &[Arc<EventFd>],
) -> bool {
    // What was rung for while nobody listened, in this process or in the one that saved the machine.
    live.serve_all();
    let mut events = [EpollEvent::default(); BATCH];
    let mut is_watched = true;
    while !stop.flag.load(Ordering::SeqCst) {
        if is_watched && live.queues.interrupt().needs_reset() {
            watch_no_more(live, epoll, doorbells);
            is_watched = false;
        }
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                live.give_up(&error);
                return false;
            }
        };
        for token in events[..count].iter().map(EpollEvent::data).filter(|token| *token != STOP) {
            let token = token as usize;
            match doorbells.get(token) {
                Some(doorbell) => {
                    let _ = doorbell.read();
                    live.serve(token);
                }
                None => live.attempt(|device, queues| device.source_ready(token - doorbells.len(), queues)),
            }
        }
    }
    true
}
