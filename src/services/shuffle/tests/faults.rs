//! Damaged and failing spill files.

use super::*;
use crate::Error;
use crate::base::hash::hash_of;
use crate::base::vfs::{Metadata, Vfs, VfsFile, no_space};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unnamed files in memory, with one byte flipped on reading, cut short, or a disk of limited size.
struct Faulty {
    flip: Arc<AtomicU64>,
    end: Arc<AtomicU64>,
    capacity: u64,
    written: Arc<Mutex<Vec<u8>>>,
}

const NONE: u64 = u64::MAX;

impl Faulty {
    fn new(capacity: u64) -> Arc<Faulty> {
        let (flip, end) = (Arc::new(AtomicU64::new(NONE)), Arc::new(AtomicU64::new(NONE)));
        Arc::new(Faulty { flip, end, capacity, written: Arc::default() })
    }
}

struct FaultyFile {
    flip: Arc<AtomicU64>,
    end: Arc<AtomicU64>,
    capacity: u64,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl VfsFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let end = self.end.load(Ordering::Relaxed).min(bytes.len() as u64);
        let from = offset.min(end);
        let len = buf.len().min((end - from) as usize);
        buf[..len].copy_from_slice(&bytes[from as usize..from as usize + len]);
        let flip = self.flip.load(Ordering::Relaxed);
        if (from..from + len as u64).contains(&flip) {
            buf[(flip - from) as usize] ^= 1 << (flip % 8);
        }
        Ok(len)
    }
    fn append(&mut self, buf: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        if (bytes.len() + buf.len()) as u64 > self.capacity {
            return Err(no_space(io::ErrorKind::StorageFull.into(), buf.len(), bytes.len() as u64));
        }
        bytes.extend_from_slice(buf);
        Ok(())
    }
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Vfs for Faulty {
    fn create_unnamed(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        let (flip, end) = (self.flip.clone(), self.end.clone());
        Ok(Box::new(FaultyFile { flip, end, capacity: self.capacity, bytes: self.written.clone() }))
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        unsupported()
    }
    fn open_append(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        unsupported()
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        unsupported()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        unsupported()
    }
    fn metadata(&self, _: &Path) -> io::Result<Metadata> {
        unsupported()
    }
}

fn rows(count: u64, is_compressible: bool) -> Vec<Row> {
    let row = |i: u64| {
        let noise = if is_compressible { 0 } else { hash_of(&!i) };
        Row {
            hash: hash_of(&i),
            timestamp: Some(noise as i64),
            key: hash_of(&(i + 1_000_000)).to_le_bytes().to_vec(),
            value: [noise, hash_of(&noise) * (noise != 0) as u64]
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect(),
        }
    };
    (0..count).map(row).collect()
}

fn read(context: &ShuffleContext, inputs: &[MergeInput]) -> crate::Result<Vec<(Row, usize, bool)>> {
    let mut all = Vec::new();
    for partition in 0..2 {
        all.extend(read_all(&mut Merge::open(context.clone(), partition, inputs, key_bytes_order())?)?);
    }
    Ok(all)
}

/// Every single flipped bit and every cut is found, wherever it is.
#[test]
fn any_damage_is_detected() {
    for is_compressible in [false, true] {
        let vfs = Faulty::new(u64::MAX);
        let mut context = context(vfs.clone(), Path::new("spill"), 1 << 20, true);
        let small = ShuffleContext { share_bytes: 32 << 10, ..context.clone() };
        let rows = rows(150, is_compressible);
        let output = Arc::new(sorted_output(small, 2, &key_bytes_order(), &rows, Remainder::Disk));
        context.identity.producer = 9;
        let inputs = [input(0, 0, &output)];
        let good = read(&context, &inputs).unwrap();
        assert_eq!(good.len(), 150);
        let len = vfs.written.lock().unwrap().len() as u64;
        assert!(len > 1000 && output.stats().spilled_bytes == len);
        assert_eq!(output.stats().stored_bytes < output.stats().raw_bytes, is_compressible);
        for at in 0..len {
            vfs.flip.store(at, Ordering::Relaxed);
            match read(&context, &inputs) {
                Err(Error::Corrupt { path, offset, message }) => {
                    assert!(path.starts_with("spill") && offset <= at, "{path:?} {offset} {at} {message}");
                }
                other => panic!("byte {at}: {other:?}"),
            }
        }
        vfs.flip.store(NONE, Ordering::Relaxed);
        for end in 0..len {
            vfs.end.store(end, Ordering::Relaxed);
            assert!(matches!(read(&context, &inputs), Err(Error::Corrupt { .. })), "cut at {end}");
        }
        vfs.end.store(NONE, Ordering::Relaxed);
        assert_eq!(read(&context, &inputs).unwrap(), good);
    }
}

/// Reading ends with an error that says so, and what came before it is what should have come.
fn is_refused_in_order(
    context: &ShuffleContext,
    inputs: &[MergeInput],
    good: &[(Row, usize, bool)],
    what: &str,
) {
    let mut good = good.iter();
    let mut read = || -> crate::Result<()> {
        for partition in 0..2 {
            let mut merge = Merge::open(context.clone(), partition, inputs, key_bytes_order())?;
            while let Some(row) = merge.next_row()? {
                let (good, _, new_key) = good.next().unwrap();
                assert_eq!((row.hash, row.timestamp, row.new_key), (good.hash, good.timestamp, *new_key));
                assert!(row.key == good.key && row.value == good.value, "{what}: another row");
            }
        }
        Ok(())
    };
    assert!(matches!(read(), Err(Error::Corrupt { .. })), "{what}");
}

/// The same of a row so large that only its front is read at first, with a key that is shorter or longer than that.
#[test]
fn damage_of_a_large_block_is_detected() {
    for is_key_large in [false, true] {
        let vfs = Faulty::new(u64::MAX);
        let context = context(vfs.clone(), Path::new("spill"), 1 << 20, true);
        let noise: Vec<u8> = (0..(2 << 20) / 8).flat_map(|i| hash_of(&i).to_le_bytes()).collect();
        // One hash, so that keys and timestamps decide, which are read before the row is.
        let mut rows = rows(5, true);
        rows.iter_mut().for_each(|row| row.hash = 1);
        *(if is_key_large { &mut rows[1].key } else { &mut rows[1].value }) = noise;
        let output = Arc::new(sorted_output(context.clone(), 2, &key_bytes_order(), &rows, Remainder::Disk));
        let inputs = [input(0, 0, &output)];
        // In one pass: there is one file here.
        let context = ShuffleContext { share_bytes: 16 << 20, ..context };
        let good = read(&context, &inputs).unwrap();
        let is_large = |row: &Row| (&row.key, &row.value) == (&rows[1].key, &rows[1].value);
        assert!(good.len() == 5 && good.iter().any(|(row, ..)| is_large(row)));
        let len = vfs.written.lock().unwrap().len() as u64;
        let places = (0..400).chain((0..20).map(|i| i * len / 20)).chain(len - 400..len);
        for at in places.step_by(7) {
            vfs.flip.store(at, Ordering::Relaxed);
            is_refused_in_order(&context, &inputs, &good, &format!("flipped at {at}"));
            vfs.flip.store(NONE, Ordering::Relaxed);
            vfs.end.store(at, Ordering::Relaxed);
            is_refused_in_order(&context, &inputs, &good, &format!("cut at {at}"));
            vfs.end.store(NONE, Ordering::Relaxed);
        }
        assert_eq!(read(&context, &inputs).unwrap(), good);
    }
}

/// A block of another attempt is whole, but it is not the one that was asked for.
#[test]
fn a_block_of_another_attempt_is_refused() {
    let vfs = Faulty::new(u64::MAX);
    let context = context(vfs.clone(), Path::new("spill"), 1 << 20, true);
    let mut other = context.clone();
    other.identity.attempt = 1;
    let second = sorted_output(other, 2, &key_bytes_order(), &rows(50, false), Remainder::Disk);
    let bytes = std::mem::take(&mut *vfs.written.lock().unwrap());
    let first = sorted_output(context.clone(), 2, &key_bytes_order(), &rows(50, false), Remainder::Disk);
    assert_eq!(first.partition_digest(0), second.partition_digest(0));
    *vfs.written.lock().unwrap() = bytes;
    let error = read(&context, &[input(0, 0, &Arc::new(first))]).unwrap_err().to_string();
    assert!(error.contains("attempt of the block is 0x1, expected 0x0"), "{error}");
}

#[test]
fn a_full_disk_says_what_was_needed() {
    let vfs = Faulty::new(10_000);
    let context = context(vfs, Path::new("spill"), 32 << 10, true);
    let mut buffer = SortBuffer::new(context, partitioning(2), key_bytes_order());
    let failed = rows(5000, false)
        .iter()
        .find_map(|row| buffer.append(row.hash, row.timestamp, &row.key, &row.value).err())
        .expect("the disk holds less");
    assert!(matches!(failed, Error::Io { action: "write", .. }));
    let text = failed.to_string();
    assert!(
        text.contains("spill/unnamed-shuffle-stage1") && text.contains("bytes are needed after"),
        "{text}"
    );
    assert!(text.contains("give more memory"), "{text}");
}

/// T15: a record above the limit is an error that says so, of both kinds of buffer, and one below it is none; what came before is there still.
#[test]
fn a_record_above_the_limit_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    // Pages of zeros that nobody writes to.
    let large = vec![0u8; ROW_BYTES_MAX + 1];
    let mut sorted =
        SortBuffer::new(os_context(dir.path(), 1 << 16, false), partitioning(1), key_bytes_order());
    let mut plain = PartitionBuffer::new(os_context(dir.path(), 1 << 16, false), 1);
    sorted.append(1, None, b"key", b"value").unwrap();
    plain.append(0, None, b"value").unwrap();
    let found = [
        sorted.append(1, None, b"key", &large[..ROW_BYTES_MAX]).unwrap_err().to_string(),
        sorted.append(1, None, &large, b"").unwrap_err().to_string(),
        plain.append(0, None, &large).unwrap_err().to_string(),
    ];
    for error in found {
        assert!(error.contains(&ROW_BYTES_MAX.to_string()), "{error}");
    }
    for output in [sorted.finish(Remainder::Memory).unwrap(), plain.finish(Remainder::Memory).unwrap()] {
        assert_eq!(output.stats().rows, 1);
    }
}
