//! A segment's header: what the file is, twice.

use heapless::String;

use super::{
    FORMAT, Fault, Fields, PAGE_SIZE, StoreId, Writer, is_life, is_offset, narrow, seal, verifies,
};
use crate::clock::Stamp;

/// How many copies of the header stand in front, one a page.
pub const HEADER_COPIES: u32 = 2;
/// The bytes of a header that mean something; the rest of its page is zero.
pub const SEGMENT_HEADER_SIZE: usize = 512;
/// The longest name of a stream, in bytes.
pub const NAME_LEN_MAX: usize = 249;
/// The fewest pages of a segment: two headers, three tail slots and one page more.
pub const PAGES_MIN: u32 = 6;
/// The most pages of a segment: it is shorter than 4 GiB.
pub const PAGES_MAX: u32 = (1 << 20) - 1;

const MAGIC: [u8; 8] = *b"fbaySEG\n";
const RESERVED_FOR_ENCRYPTION: usize = 2 + 2 + 4 + 16 + 32;

const _: () = assert!(SEGMENT_HEADER_SIZE <= PAGE_SIZE);

/// The header of a segment. It is authoritative: the file's name only says which slot it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store that it belongs to.
    pub store: StoreId,
    /// The store's epoch.
    pub epoch: u64,
    /// The first offset that may stand in it.
    pub base: u64,
    /// The life under which it was prepared; pages of lower lives are a former life's.
    pub life: u64,
    /// The file's number, which is also its name.
    pub number: u32,
    /// The file's length in pages, headers included.
    pub pages: u32,
    /// When it was prepared.
    pub prepared: Stamp,
    /// The stream's name.
    pub name: String<NAME_LEN_MAX>,
}

impl SegmentHeader {
    /// Writes it to the first [`SEGMENT_HEADER_SIZE`] bytes of a page.
    pub fn encode(&self, page: &mut [u8]) {
        let bytes = &mut page[..SEGMENT_HEADER_SIZE];
        let mut writer = Writer::new(bytes);
        writer.u32(0).put(&MAGIC).u16(FORMAT).u16(0);
        writer
            .put(&self.store.0)
            .u64(self.epoch)
            .u64(self.base)
            .u64(self.life);
        writer
            .u32(self.number)
            .u32(self.pages)
            .u32(narrow(PAGE_SIZE))
            .u32(0);
        writer
            .u64(self.prepared.boot)
            .u64(self.prepared.mono_ms)
            .u64(self.prepared.wall_ms);
        writer.skip(RESERVED_FOR_ENCRYPTION);
        writer
            .u16(narrow(self.name.len()))
            .put(self.name.as_bytes());
        seal(bytes);
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(page: &[u8]) -> Result<Self, Fault> {
        let Some(bytes) = page.get(..SEGMENT_HEADER_SIZE) else {
            return Err(Fault::Invalid);
        };
        let mut fields = Fields(&bytes[4..]);
        if fields.array() != MAGIC || !verifies(bytes) {
            return Err(Fault::Invalid);
        }
        let format = fields.u16();
        if format > FORMAT {
            return Err(Fault::Newer(format));
        }
        fields.skip(2);
        let store = StoreId(fields.array());
        let (epoch, base, life) = (fields.u64(), fields.u64(), fields.u64());
        let (number, pages, page_size) = (fields.u32(), fields.u32(), fields.u32());
        fields.skip(4);
        let prepared = Stamp {
            boot: fields.u64(),
            mono_ms: fields.u64(),
            wall_ms: fields.u64(),
        };
        fields.skip(RESERVED_FOR_ENCRYPTION);
        let name_len = usize::from(fields.u16());
        let name = fields
            .take(name_len)
            .and_then(|name| std::str::from_utf8(name).ok());
        let name = name.and_then(|name| String::try_from(name).ok());
        let name = name.ok_or(Fault::Invalid)?;
        let is_within =
            is_offset(base) && is_life(life) && (PAGES_MIN..=PAGES_MAX).contains(&pages);
        if page_size as usize != PAGE_SIZE || !is_within {
            return Err(Fault::Invalid);
        }
        Ok(Self {
            store,
            epoch,
            base,
            life,
            number,
            pages,
            prepared,
            name,
        })
    }
}
