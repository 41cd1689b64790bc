//! TwoPhase: a sink with transactions, as of a database: a writer writes into a transaction, which is prepared at a
//! barrier and committed when the checkpoint is complete. Made with the public traits only.
//!
//! A transaction is a file: `open-*` while it is written, `prepared-*`, `committed-*`. Committing twice finds the file
//! committed; a transaction that is neither open nor prepared nor committed is an error, since it was lost.

use mainstem::base::batch::Batch;
use mainstem::base::vfs::{SharedVfs, VfsFile};
use mainstem::connectors::sink::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter};
use mainstem::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub struct TwoPhase {
    dir: PathBuf,
}

impl TwoPhase {
    pub fn new(dir: &Path) -> TwoPhase {
        TwoPhase { dir: dir.to_path_buf() }
    }
}

pub struct Writer {
    vfs: SharedVfs,
    dir: PathBuf,
    /// Of this subtask in this attempt.
    name: String,
    transactions: u64,
    open: Option<(String, Box<dyn VfsFile>)>,
}

impl Sink<String> for TwoPhase {
    type Committable = String;
    type Writer = Writer;

    fn describe(&self) -> String {
        format!("two-phase {}", self.dir.display())
    }
    fn prepare(&self, ctx: &SinkContext) -> Result<()> {
        ctx.vfs.create_dir_all(&self.dir).map_err(|e| Error::io("create", &self.dir, e))
    }
    fn writer(&self, ctx: &SinkContext) -> Result<Writer> {
        let name = format!("{}-{}-{}", ctx.job_id, ctx.attempt, ctx.subtask);
        let files = ctx.vfs.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        // Behind all that attempts before this one have written, so that the order of the names is that of the records.
        let transactions =
            files.iter().filter_map(|path| path.to_str()?.rsplit('-').next()?.parse::<u64>().ok());
        let transactions = transactions.max().map_or(0, |last| last + 1);
        Ok(Writer { vfs: ctx.vfs.clone(), dir: self.dir.clone(), name, transactions, open: None })
    }
    fn commit(&self, committables: Vec<String>, ctx: &SinkContext) -> Result<()> {
        for name in committables {
            let (from, to) =
                (self.dir.join(format!("prepared-{name}")), self.dir.join(format!("committed-{name}")));
            match ctx.vfs.rename(&from, &to) {
                Err(e) if e.kind() == ErrorKind::NotFound && ctx.vfs.metadata(&to).is_ok() => {}
                renamed => renamed.map_err(|e| Error::io("commit", &from, e))?,
            }
        }
        ctx.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))
    }
    fn recover(&self, recovered: Recovered<'_, String>, ctx: &SinkContext) -> Result<()> {
        self.commit(recovered.committables, ctx)?;
        self.abort(ctx)
    }
    fn abort(&self, ctx: &SinkContext) -> Result<()> {
        for path in ctx.vfs.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))? {
            if !path.to_string_lossy().contains("/committed-") {
                ctx.vfs.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Ends the transaction that is open, if one is.
    fn end(&mut self) -> Result<Vec<String>> {
        let Some((name, mut file)) = self.open.take() else { return Ok(Vec::new()) };
        let (from, to) = (self.dir.join(format!("open-{name}")), self.dir.join(format!("prepared-{name}")));
        file.sync_data().map_err(|e| Error::io("sync", &from, e))?;
        self.vfs.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))?;
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(vec![name])
    }
}

impl SinkWriter<String> for Writer {
    type Committable = String;

    fn write(&mut self, batch: &mut Batch<String>) -> Result<()> {
        if self.open.is_none() {
            let name = format!("{}-{:06}", self.name, self.transactions);
            let path = self.dir.join(format!("open-{name}"));
            self.transactions += 1;
            self.open = Some((name, self.vfs.create(&path).map_err(|e| Error::io("create", &path, e))?));
        }
        let mut text = String::new();
        batch.values.drain(..).for_each(|line| text.extend([line.as_str(), "\n"]));
        batch.clear();
        let (name, file) = self.open.as_mut().expect("opened above");
        file.append(text.as_bytes()).map_err(|e| Error::io("write", self.dir.join(&*name), e))
    }
    fn prepare_commit(&mut self, _: CommitPoint) -> Result<Vec<String>> {
        self.end()
    }
}
