-- The upkeep of partitions, by the owner's rights, at the server's call.

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
set search_path = pg_catalog, pg_temp
as $$
declare
  child text := p_family || to_char(p_from at time zone 'UTC', '"_"YYYYMMDD"_"HH24');
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

-- Makes the partitions around p_now and ahead of it, and drops those whose
-- every row has outlived its use. A partition is old only where both clocks,
-- the caller's and the database's, say so: one wrong clock must not make a
-- proof acceptable again. A drop that cannot have its lock at once is left to
-- the next call, so that no request waits behind it.
create function authz.maintain_partitions(p_now timestamptz) returns table (created integer, dropped integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  family record;
  child record;
  step timestamptz;
begin
  created := 0;
  dropped := 0;
  perform pg_advisory_xact_lock(hashtextextended('authz.maintain_partitions', 0));
  perform set_config('TimeZone', 'UTC', true);
  for family in
    select * from (values
      ('tokens',       'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
      ('spent_proofs', 'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
      ('audit_events', 'day',  interval '1 day',  interval '2 days',  interval '90 days')
    ) as f (name, unit, width, ahead, keep)
  loop
    step := date_trunc(family.unit, p_now - family.width);
    while step <= p_now + family.ahead loop
      if authz.ensure_partition(family.name, step, step + family.width) then
        created := created + 1;
      end if;
      step := step + family.width;
    end loop;

    for child in
      select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = format('authz.%I', family.name)::regclass
    loop
      if to_timestamp(right(child.relname, 11), 'YYYYMMDD"_"HH24') + family.width + family.keep
         < least(p_now, clock_timestamp()) then
        begin
          perform set_config('lock_timeout', '50ms', true);
          execute format('drop table authz.%I', child.relname);
          dropped := dropped + 1;
        exception when lock_not_available then
          null;
        end;
        perform set_config('lock_timeout', '0', true);
      end if;
    end loop;
  end loop;
  return next;
end
$$;

-- Whether a token of this moment can be recorded.
create function authz.has_partitions(p_at timestamptz) returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select to_regclass('authz.tokens_' || to_char(date_trunc('hour', p_at at time zone 'UTC'), 'YYYYMMDD"_"HH24')) is not null
     and to_regclass('authz.spent_proofs_' || to_char(date_trunc('hour', p_at at time zone 'UTC'), 'YYYYMMDD"_"HH24')) is not null
     and to_regclass('authz.audit_events_' || to_char(date_trunc('day', p_at at time zone 'UTC'), 'YYYYMMDD"_"HH24')) is not null
$$;

revoke all on function authz.uuidv7_floor, authz.ensure_partition, authz.maintain_partitions, authz.has_partitions from public;
grant execute on function authz.maintain_partitions, authz.has_partitions to authz_server;
