//! Every bound of the index in one place, unit last in the name.
//! Tests make them small, so that a handful of twins meets every one of them.

/// Rows of one chunk. Positions must fit into `u16`.
pub const CHUNK_ROWS_MAX: usize = 4096;
/// Cells of a column that are kept one by one; with more, the column has a place for each row of its chunk.
pub const SPARSE_CELLS_MAX: usize = 32;
/// Different values of a column whose codes take one byte each.
pub const NARROW_CODES_MAX: usize = 255;
/// Paths with columns, on the whole index. Twins with others are marked, and looked at themselves.
pub const INDEX_PATHS_MAX: usize = 8192;
/// Bytes in the columns of all paths. Beyond it the largest path is given up and looked up in the twins.
pub const INDEX_BYTES_MAX: usize = 6 << 30;
/// Bytes of a text that a column keeps; of a longer one it only knows that it is there.
pub const CELL_TEXT_BYTES_MAX: usize = 256;
/// Twins that are kept as they are, since they were written last; all others are packed. One takes some 10 KB.
pub const OPEN_TWINS_MAX: usize = 8192;

/// The bounds in force.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`CHUNK_ROWS_MAX`]; at least 2.
    pub chunk_rows_max: usize,
    /// See [`SPARSE_CELLS_MAX`].
    pub sparse_cells_max: usize,
    /// See [`NARROW_CODES_MAX`].
    pub narrow_codes_max: usize,
    /// See [`INDEX_PATHS_MAX`].
    pub paths_max: usize,
    /// See [`INDEX_BYTES_MAX`].
    pub bytes_max: usize,
    /// See [`CELL_TEXT_BYTES_MAX`].
    pub text_bytes_max: usize,
    /// See [`OPEN_TWINS_MAX`].
    pub open_twins_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chunk_rows_max: CHUNK_ROWS_MAX,
            sparse_cells_max: SPARSE_CELLS_MAX,
            narrow_codes_max: NARROW_CODES_MAX,
            paths_max: INDEX_PATHS_MAX,
            bytes_max: INDEX_BYTES_MAX,
            text_bytes_max: CELL_TEXT_BYTES_MAX,
            open_twins_max: OPEN_TWINS_MAX,
        }
    }
}
