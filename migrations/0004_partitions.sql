-- The upkeep of partitions, by the owner's rights, at the server's call. Names
-- and bounds of partitions are text, so each function pins the time zone and
-- the style of dates.

-- What is partitioned, by steps of which width; how far ahead partitions are
-- made; and how long after its end one is kept.
create function authz.partition_families()
returns table (family text, unit text, width interval, ahead interval, keep interval)
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  values
    ('tokens',       'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
    ('spent_proofs', 'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
    ('audit_events', 'day',  interval '1 day',  interval '2 days',  interval '90 days')
$$;

-- The least UUIDv7 of a moment.
create function authz.uuidv7_floor(p_at timestamptz) returns uuid
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select (lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes one partition where it is missing. ATTACH takes a weak lock on the
-- parent where CREATE ... PARTITION OF would stop every request.
create function authz.ensure_partition(p_family text, p_from timestamptz, p_to timestamptz) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO'
as $$
declare
  child text := p_family || to_char(p_from, '"_"YYYYMMDD"_"HH24');
  lower_bound text := p_from::text;
  upper_bound text := p_to::text;
begin
  if to_regclass(format('authz.%I', child)) is not null then
    return false;
  end if;
  execute format('create table authz.%I (like authz.%I including all)', child, p_family);
  if p_family = 'tokens' then
    lower_bound := authz.uuidv7_floor(p_from)::text;
    upper_bound := authz.uuidv7_floor(p_to)::text;
  elsif p_family = 'spent_proofs' then
    execute format('create unique index %I on authz.%I (digest)', child || '_digest_key', child);
  end if;
  execute format('alter table authz.%I attach partition authz.%I for values from (%L) to (%L)',
    p_family, child, lower_bound, upper_bound);
  return true;
end
$$;

-- Makes the partitions around p_now and ahead of it, and returns how many were
-- missing. One that would be dropped by now is not made: where a clock is far
-- behind, what was spent then must not be forgotten anew, and inserts fail.
create function authz.ensure_partitions(p_now timestamptz, p_database_now timestamptz) returns integer
language plpgsql strict
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO'
as $$
declare
  f record;
  step timestamptz;
  created integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('authz.partitions', 0));
  for f in select * from authz.partition_families() loop
    step := date_trunc(f.unit, p_now - f.width);
    while step <= p_now + f.ahead loop
      if step + f.width + f.keep >= p_database_now and authz.ensure_partition(f.family, step, step + f.width) then
        created := created + 1;
      end if;
      step := step + f.width;
    end loop;
  end loop;
  return created;
end
$$;

-- What the server may ask for: no more than two days ahead of the database's
-- clock, so that it can neither fill the database nor take names that are needed
-- later.
create function authz.create_partitions(p_now timestamptz) returns integer
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO'
as $$
begin
  if not isfinite(p_now) or p_now > clock_timestamp() + interval '2 days' then
    raise exception 'no partitions are made around %: the database''s clock says %', p_now, clock_timestamp()
      using errcode = 'invalid_parameter_value';
  end if;
  return authz.ensure_partitions(p_now, clock_timestamp());
end
$$;

-- Drops the oldest partition of a family if its every row has outlived its use,
-- and returns whether it did. A partition is old only where both clocks, the
-- caller's and the database's, say so: one wrong clock must not make a proof
-- acceptable again.
--
-- A drop locks the whole family until its transaction ends, and requests queue
-- behind a drop that waits. So it waits for a moment only and leaves the rest to
-- the next call, and each drop is meant to be a transaction of its own.
create function authz.drop_old_partition(p_family text, p_now timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set lock_timeout = '50ms'
as $$
declare
  child name;
begin
  -- Whoever holds it is at the same work.
  if not pg_try_advisory_xact_lock(hashtextextended('authz.partitions', 0)) then
    return false;
  end if;
  select c.relname into child
  from authz.partition_families() f
  join pg_inherits i on i.inhparent = format('authz.%I', f.family)::regclass
  join pg_class c on c.oid = i.inhrelid
  where f.family = p_family
    and to_timestamp(right(c.relname, 11), 'YYYYMMDD"_"HH24') + f.width + f.keep < least(p_now, clock_timestamp())
  order by c.relname
  limit 1;
  if child is null then
    return false;
  end if;
  execute format('drop table authz.%I', child);
  return true;
exception when lock_not_available then
  return false;
end
$$;

-- Whether a token of this moment can be recorded.
create function authz.has_partitions(p_at timestamptz) returns boolean
language sql stable strict
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO'
as $$
  select to_regclass('authz.tokens_' || to_char(p_at, 'YYYYMMDD"_"HH24')) is not null
     and to_regclass('authz.spent_proofs_' || to_char(p_at, 'YYYYMMDD"_"HH24')) is not null
     and to_regclass('authz.audit_events_' || to_char(p_at, 'YYYYMMDD"_00"')) is not null
$$;

revoke all on function authz.partition_families, authz.uuidv7_floor, authz.ensure_partition,
  authz.ensure_partitions, authz.create_partitions, authz.drop_old_partition, authz.has_partitions from public;
grant execute on function authz.create_partitions, authz.drop_old_partition, authz.has_partitions to authz_server;
