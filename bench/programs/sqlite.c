/* sqlite [ROWS]: tables, an index, a join, updates and a sort in a database in memory. Much code, none of it very hot. */
#include <string.h>

#include "program.h"
#include "sqlite3.h"

/* SQLite wants a file system even for a database in memory; this one has no files. */
static int no_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs, (void)name, (void)flags, (void)out;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}

static int no_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs, (void)name, (void)sync;
    return SQLITE_OK;
}

static int no_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs, (void)name, (void)flags;
    *out = 0;
    return SQLITE_OK;
}

static int full_name(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    (void)vfs;
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
}

static int randomness(sqlite3_vfs *vfs, int size, char *out)
{
    (void)vfs;
    memset(out, 4, (size_t)size);
    return size;
}

static int no_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds;
}

static int epoch(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    *out = 210866760000000;
    return SQLITE_OK;
}

int sqlite3_os_init(void)
{
    static sqlite3_vfs vfs = {
        .iVersion = 2,
        .szOsFile = sizeof(sqlite3_file),
        .mxPathname = 64,
        .zName = "none",
        .xOpen = no_open,
        .xDelete = no_delete,
        .xAccess = no_access,
        .xFullPathname = full_name,
        .xRandomness = randomness,
        .xSleep = no_sleep,
        .xCurrentTimeInt64 = epoch,
    };
    return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void)
{
    return SQLITE_OK;
}

static sqlite3 *database;

static void check(int code)
{
    if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW) {
        fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(database));
        abort();
    }
}

static void run(const char *sql)
{
    check(sqlite3_exec(database, sql, NULL, NULL, NULL));
}

static uint64_t sum_of(const char *sql, uint64_t sum)
{
    sqlite3_stmt *statement;
    check(sqlite3_prepare_v2(database, sql, -1, &statement, NULL));
    while (sqlite3_step(statement) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const unsigned char *text = sqlite3_column_text(statement, i);
            for (; text != NULL && *text != 0; text++)
                sum = program_mix(sum, *text);
        }
    check(sqlite3_finalize(statement));
    return sum;
}

int main(int argc, char **argv)
{
    uint32_t rows = program_size(argc, argv, 10000), seed = 5;
    check(sqlite3_open(":memory:", &database));
    run("CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, price INTEGER, name TEXT);"
        "CREATE TABLE kind(id INTEGER PRIMARY KEY, name TEXT); BEGIN");
    sqlite3_stmt *insert;
    check(sqlite3_prepare_v2(database, "INSERT INTO item(kind, price, name) VALUES(?1, ?2, printf('item %x', ?2 * 7919))", -1,
                             &insert, NULL));
    for (uint32_t i = 0; i < rows; i++) {
        check(sqlite3_bind_int(insert, 1, (int)(program_random(&seed) % 50)));
        check(sqlite3_bind_int(insert, 2, (int)(program_random(&seed) % 100000)));
        check(sqlite3_step(insert));
        check(sqlite3_reset(insert));
    }
    check(sqlite3_finalize(insert));
    run("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)"
        " INSERT INTO kind SELECT i, 'kind ' || i FROM n; COMMIT; CREATE INDEX by_kind ON item(kind, price)");
    uint64_t sum = PROGRAM_HASH;
    sum = sum_of("SELECT k.name, count(*), sum(price), min(i.name) FROM item i JOIN kind k ON k.id = i.kind GROUP BY k.id", sum);
    run("UPDATE item SET price = price + 1 WHERE kind % 3 = 0; DELETE FROM item WHERE price % 7 = 0");
    sum = sum_of("SELECT name, price FROM item ORDER BY name DESC LIMIT 500", sum);
    sum = sum_of("SELECT count(*) FROM item WHERE name LIKE '%f%' AND price BETWEEN 1000 AND 50000", sum);
    sum = sum_of("SELECT kind, max(price) - min(price) FROM item WHERE kind IN (1, 2, 3, 5, 8, 13) GROUP BY kind", sum);
    check(sqlite3_close(database));
    return program_end(sum);
}
