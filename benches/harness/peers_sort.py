"""Sort of 100-byte lines by their first ten bytes in a Python package: PACKAGE INPUT OUT TEMP THREADS BYTES.
Prints the seconds."""
import os
import sys
import time

package, text, out, temp = sys.argv[1:5]
threads, memory = int(sys.argv[5]), int(sys.argv[6])
started = time.time()
if package == "duckdb":
    import duckdb

    connection = duckdb.connect(os.path.join(temp, "sort.db"))
    connection.execute(f"set threads={threads}")
    connection.execute(f"set temp_directory='{temp}/spill'")
    connection.execute(f"set memory_limit='{memory}B'")
    connection.execute("set preserve_insertion_order=false")
    connection.execute(
        f"""copy (select line from read_csv('{text}', header=false, delim='\t', quote='', escape='',
                          columns={{'line': 'VARCHAR'}}, auto_detect=false) order by line[1:10])
            to '{out}' (header false, quote '', delimiter '\t')"""
    )
elif package == "datafusion":
    import datafusion

    runtime = datafusion.RuntimeEnvBuilder().with_disk_manager_os().with_fair_spill_pool(memory)
    config = datafusion.SessionConfig().with_target_partitions(threads)
    context = datafusion.SessionContext(config, runtime)
    context.sql(
        f"""create external table t (line varchar) stored as csv location '{text}'
            options ('format.has_header' 'false', 'format.delimiter' '\t', 'format.quote' '\x01')"""
    )
    context.sql(
        f"""copy (select line from t order by substr(line, 1, 10)) to '{out}' stored as csv
            options ('format.has_header' 'false', 'format.delimiter' '\t')"""
    ).collect()
else:
    sys.exit(f"no sort for {package}")
print(f"inside={time.time() - started:.3f}")
