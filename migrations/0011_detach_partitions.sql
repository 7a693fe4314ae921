-- Old partitions leave in two steps. To drop one locks its whole family for as long
-- as that takes, and has each connection plan its statements anew: a day of them, one
-- after another, stopped requests for a good part of a second. To detach takes a
-- fifth of that, all of them share one lock and one planning, and what is dropped
-- then is in nobody's way.

-- Takes the old partitions of a family away, a day of them at most, and returns
-- whether it did anything: first it detaches those whose every row has outlived its
-- use, and the next call drops those that it detached, then or before a crash: they
-- are renamed, and what an operator has detached, to keep it, stays. A partition is
-- old only where both clocks, the caller's and the database's, say so: one wrong
-- clock must not make a proof acceptable again.
--
-- To detach locks the whole family until the transaction ends, and requests queue
-- behind one that waits. So it waits for a moment only and leaves the rest to the
-- next call, and each call is meant to be a transaction of its own.
create or replace function authz.drop_old_partition(p_family text, p_now timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set lock_timeout = '50ms'
as $$
declare
  old record;
  index name;
  detaches boolean;
  done boolean := false;
begin
  -- Whoever holds it is at the same work.
  if not pg_try_advisory_xact_lock(hashtextextended('authz.partitions', 0)) then
    return false;
  end if;
  for old in
    select c.relname, i.inhrelid is not null as attached
    from authz.partition_families() f
    join pg_class c on c.relnamespace = 'authz'::regnamespace and c.relkind = 'r'
      and c.relname ~ ('^' || f.family || '_[0-9]{8}_[0-9]{2}(_old)?$')
    left join pg_inherits i on i.inhrelid = c.oid
    where f.family = p_family
      and (i.inhrelid is null) = (c.relname like '%\_old')
      and to_timestamp(substring(c.relname from '[0-9]{8}_[0-9]{2}'), 'YYYYMMDD"_"HH24') + f.width + f.keep < least(p_now, clock_timestamp())
    order by attached, c.relname
    limit 24
  loop
    detaches := coalesce(detaches, old.attached);
    exit when old.attached <> detaches;
    if old.attached then
      execute format('alter table authz.%I detach partition authz.%I', p_family, old.relname);
      execute format('alter table authz.%I rename to %I', old.relname, old.relname || '_old');
      -- Its names are free for one that a clock which was set back may want again.
      for index in
        select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = format('authz.%I', old.relname || '_old')::regclass
      loop
        execute format('alter index authz.%I rename to %I', index, replace(index, old.relname, old.relname || '_old'));
      end loop;
    else
      execute format('drop table authz.%I', old.relname);
    end if;
    done := true;
  end loop;
  return done;
exception when lock_not_available then
  return false;
end
$$;

update authz.oldest_build set version = 8;
