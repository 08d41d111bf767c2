//! Rot and crashes below a checked file.

mod crash;
mod fragile;
mod rot;
mod speed;

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::CheckedFile;
use fragile::Fragile;

const ROWS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rows");
const CACHE_BYTES: usize = 1024 * 1024;

/// What a table should hold.
type Rows = BTreeMap<u32, Vec<u8>>;

fn open(file: &Fragile) -> Result<Database, redb::Error> {
    let checked = CheckedFile::new("state", Box::new(file.clone()), Box::new(|_| {}));
    let mut builder = Database::builder();
    Ok(builder.set_cache_size(CACHE_BYTES).create_with_backend(checked)?)
}

/// One commit as the store makes them; `None` removes.
fn commit(db: &Database, rows: &BTreeMap<u32, Option<Vec<u8>>>) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut table = txn.open_table(ROWS)?;
        for (key, value) in rows {
            match value {
                Some(value) => table.insert(key, &value[..]).map(drop)?,
                None => table.remove(key).map(drop)?,
            }
        }
    }
    Ok(txn.commit()?)
}

fn read_all(db: &Database) -> Result<Rows, redb::Error> {
    let txn = db.begin_read()?;
    let table = match txn.open_table(ROWS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
        Err(error) => return Err(error.into()),
    };
    let rows = table.iter()?;
    rows.map(|row| row.map(|(key, value)| (key.value(), value.value().to_vec())))
        .collect::<Result<_, _>>()
        .map_err(redb::Error::from)
}
