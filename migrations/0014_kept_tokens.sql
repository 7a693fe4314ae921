-- What an instance keeps of a token that it was asked about holds for the next request
-- only where nothing has changed by which a token ends. Of that, whatever many tokens
-- depend on has its revision in authz.gateway_revision; that of a token itself is here.

-- A token has the one whose number the first ten bits of its digest are: as many rows
-- as there are, however many tokens. It is another one after each change of such a
-- token, random for the reason that authz.gateway_revision is. That of -1 is
-- authz.gateway_revision's own, so that one look is enough.
create table authz.token_revisions (
  slot     smallint not null,
  revision bigint   not null,
  constraint token_revisions_pkey primary key (slot),
  constraint token_revisions_slot_check check (slot between -1 and 1023)
) with (fillfactor = 50);
insert into authz.token_revisions (slot, revision)
select slot, hashtextextended(gen_random_uuid()::text, 0) from generate_series(0, 1023) slot;
insert into authz.token_revisions (slot, revision)
select -1, revision from authz.gateway_revision;

create function authz.follow_gateway_revision() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into authz.token_revisions as r (slot, revision) select -1, v.revision from authz.gateway_revision v
  on conflict (slot) do update set revision = excluded.revision;
  if not found then
    delete from authz.token_revisions where slot = -1;
  end if;
  return null;
end
$$;
create trigger gateway_revision_followed after insert or update or delete or truncate on authz.gateway_revision
  for each statement execute function authz.follow_gateway_revision();

-- By the right of the owner: the server's role revokes tokens, and has no say in what
-- others keep of them.
create function authz.next_token_revision() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update authz.token_revisions set revision = hashtextextended(gen_random_uuid()::text, 0)
  where slot = get_byte(old.digest, 0) * 4 + get_byte(old.digest, 1) / 64;
  return null;
end
$$;
create trigger tokens_token_revision after update or delete on authz.tokens
  for each row execute function authz.next_token_revision();

-- What many tokens depend on, and gateway tables do not.
create function authz.next_revision_of_all_tokens() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update authz.gateway_revision set revision = hashtextextended(gen_random_uuid()::text, 0);
  return new;
end
$$;
create trigger tokens_truncated_gateway_revision before truncate on authz.tokens
  for each statement execute function authz.next_revision_of_all_tokens();
create trigger revoked_dpop_keys_gateway_revision before insert or update or delete or truncate on authz.revoked_dpop_keys
  for each statement execute function authz.next_revision_of_all_tokens();
create trigger signing_keys_gateway_revision before update or delete or truncate on authz.signing_keys
  for each statement execute function authz.next_revision_of_all_tokens();
-- One that is new has signed nothing, and the server adds such; an owner may bring one
-- back that was deleted.
create trigger signing_keys_added_gateway_revision before insert on authz.signing_keys
  for each row when (new.revoked_at is not null) execute function authz.next_revision_of_all_tokens();

-- A gateway that asks about a token is to be what it was when it authenticated, in every
-- respect. All that it is has a trigger in 0006 or 0009 but for its grants.
create function authz.next_gateway_revision_of_grant() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from authz.gateway_resources where client_id in (old.client_id, new.client_id)) then
    update authz.gateway_revision set revision = hashtextextended(gen_random_uuid()::text, 0);
  end if;
  return coalesce(new, old);
end
$$;
create trigger grants_gateway_revision before insert or update or delete on authz.grants
  for each row execute function authz.next_gateway_revision_of_grant();
create trigger grants_truncated_gateway_revision before truncate on authz.grants
  for each statement execute function authz.next_gateway_revision();

-- Also for who writes as a replica does.
alter table authz.gateway_revision enable always trigger gateway_revision_followed;
alter table authz.tokens enable always trigger tokens_token_revision;
alter table authz.tokens enable always trigger tokens_truncated_gateway_revision;
alter table authz.revoked_dpop_keys enable always trigger revoked_dpop_keys_gateway_revision;
alter table authz.signing_keys enable always trigger signing_keys_gateway_revision;
alter table authz.signing_keys enable always trigger signing_keys_added_gateway_revision;
alter table authz.grants enable always trigger grants_gateway_revision;
alter table authz.grants enable always trigger grants_truncated_gateway_revision;

revoke all on function authz.follow_gateway_revision, authz.next_token_revision, authz.next_revision_of_all_tokens, authz.next_gateway_revision_of_grant from public;
grant select on authz.token_revisions to authz_server;

update authz.oldest_build set version = 8;
