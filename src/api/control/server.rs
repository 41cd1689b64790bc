//! Server: answers what comes through a job's socket.
//!
//! Place: one thread that accepts, and one for each connection, beside the job. They end with the job: the last answers are
//! given before the process may end.

use super::protocol::{REQUEST_BYTES_MAX, Request, Response, read_line, write_line};
use super::record::JobRecord;
use super::socket;
use crate::api::handle::JobHandle;
use crate::api::report::SPAN;
use crate::base::error::{Error, Result};
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Connections at once; a further one is told so and closed.
pub const CONNECTIONS_MAX: usize = 8;
/// A connection through which nothing comes for so long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often somebody looks for a new connection.
const LOOK: Duration = Duration::from_millis(20);
/// How long the end of a job waits until everybody has been answered.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves one job. Ends when it is told how the job has ended, or dropped.
pub(in crate::api) struct Server {
    dir: PathBuf,
    record: JobRecord,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    job: JobHandle,
    over: AtomicBool,
    connections: AtomicUsize,
    /// Requests that have been read and are not answered yet.
    unanswered: AtomicUsize,
}

impl Server {
    /// Begins to serve a job in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made or the socket cannot be opened in it.
    pub(in crate::api) fn start(dir: &Path, job: &JobHandle) -> Result<Server> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
        JobRecord::make_room(dir)?;
        let record = JobRecord {
            id: job.id().to_string(),
            name: job.name().to_string(),
            process: std::process::id(),
            started_ms: now_ms(),
            ended_ms: None,
            status: job.status(),
            error: None,
            report: None,
        };
        let path = JobRecord::socket(dir, job.id());
        let listener = socket::listen(&path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|e| Error::io("open the control socket", &path, e))?;
        let shared = Arc::new(Shared {
            job: job.clone(),
            over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        });
        let mut server = Server { dir: dir.to_path_buf(), record, shared: shared.clone(), thread: None };
        server.record.write(dir)?;
        let thread =
            std::thread::Builder::new().name("control".into()).spawn(move || accept(&listener, &shared));
        let thread = thread
            .map_err(|e| Error::Memory(format!("cannot start the thread of the control socket: {e}")))?;
        server.thread = Some(thread);
        Ok(server)
    }

    /// The job has ended, and its handle says how: writes that down, and waits a moment until everybody has been answered.
    pub(in crate::api) fn end(mut self, error: Option<String>) {
        let job = &self.shared.job;
        self.record.status = job.status();
        self.record.ended_ms = Some(now_ms());
        self.record.error = error;
        self.record.report = Some(job.report());
        if let Err(e) = self.record.write(&self.dir) {
            tracing::warn!(error = %e, "the end of the job is not written down in its control directory");
        }
        self.close();
        let start = Instant::now();
        while self.shared.unanswered.load(Ordering::Acquire) > 0 && start.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn close(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(JobRecord::socket(&self.dir, &self.record.id));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut looked = Instant::now();
    while !shared.over.load(Ordering::Acquire) {
        if looked.elapsed() >= SPAN {
            looked = Instant::now();
            shared.job.look();
        }
        match listener.accept() {
            Ok((stream, _)) => serve(stream, shared),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // Nobody there, or something passing such as too many open files.
            Err(_) => std::thread::park_timeout(LOOK),
        }
    }
}

/// Counts a connection for as long as it lives.
struct Connection(Arc<Shared>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts a request for as long as it is not answered.
struct Unanswered<'a>(&'a AtomicUsize);

impl Unanswered<'_> {
    fn new(count: &AtomicUsize) -> Unanswered<'_> {
        count.fetch_add(1, Ordering::AcqRel);
        Unanswered(count)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(mut stream: UnixStream, shared: &Arc<Shared>) {
    let set = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(SILENCE_MAX)))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX)));
    if set.is_err() {
        return;
    }
    let others = shared.connections.fetch_add(1, Ordering::AcqRel);
    let connection = Connection(shared.clone());
    if others >= CONNECTIONS_MAX {
        let busy = format!("the job has {CONNECTIONS_MAX} connections already; try again when one has ended");
        let _ = write_line(&mut stream, &Response::Error(busy));
        return;
    }
    let talk = move || {
        let mut connection = connection;
        // Whoever asks has no claim on an answer; the job is not disturbed.
        if let Err(error) = talk(stream, &mut connection) {
            tracing::debug!(%error, "a control connection has ended");
        }
    };
    let _ = std::thread::Builder::new().name("control connection".into()).spawn(talk);
}

fn talk(stream: UnixStream, connection: &mut Connection) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let line = match read_line(&mut from, REQUEST_BYTES_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(e) => {
                if e.kind() == ErrorKind::InvalidData {
                    let refused = format!("{e}; a request is one line of JSON");
                    write_line(&mut to, &Response::Error(refused))?;
                }
                return Err(e);
            }
        };
        let unanswered = Unanswered::new(&connection.0.unanswered);
        let response = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(request, &connection.0.job),
            Err(e) => {
                Response::Error(format!("this is not a request: {e}; one is {{\"command\":\"status\"}}"))
            }
        };
        write_line(&mut to, &response)?;
        drop(unanswered);
        if connection.0.over.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

fn answer(request: Request, job: &JobHandle) -> Response {
    let done = match request {
        Request::Status {} => return Response::Status(Box::new(job.report())),
        Request::Savepoint { path } => match full(&path).and_then(|()| job.savepoint(&path)) {
            Ok(()) => return Response::Savepoint { path },
            Err(e) => Err(e),
        },
        Request::Stop { savepoint: None, drain } => job.stop_and_wait(drain),
        Request::Stop { savepoint: Some(path), drain } => {
            full(&path).and_then(|()| job.stop_with_savepoint(&path, drain))
        }
        Request::Cancel {} => {
            job.cancellation().cancel();
            Ok(())
        }
    };
    match done {
        Ok(()) => {
            job.wait();
            Response::Ended(Box::new(job.report()))
        }
        Err(e) => Response::Error(e.to_string()),
    }
}

/// The job may have another working directory than who asks.
fn full(path: &Path) -> Result<()> {
    match path.is_absolute() {
        true => Ok(()),
        false => Err(Error::config(format!(
            "'{}' is not a full path; give one that begins with /",
            path.display()
        ))),
    }
}
