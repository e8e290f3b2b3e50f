-- Signs requests in with a token of the client's own: asks for it, keeps it while it is good, asks anew ahead of its end.
--
-- Before this stand ISSUER, the cluster that gives tokens, HEAD and BODY of what it is asked, PATIENCE with it, and how
-- old a token is (YOUNG) before it is given up because the service refused it, in milliseconds; OWN, the cluster that
-- this is in, with the header MARK and its value TICKET, which is a secret; WAIT, the cluster that answers after as many
-- milliseconds as its header DELAY says.
--
-- It is on the last step of the way up, in each of Envoy's threads by itself. Who comes while there is no token asks, or
-- waits for what the one that asks gets; who gets none ends here. The next token is asked for by a request of the
-- thread's own, to OWN with the ticket, which no caller waits for and which is never sent to the service. No secret is
-- told to the log.

local SHORTEST, LONGEST, USUAL = 1, 86400, 300 -- seconds that a token is taken for good; USUAL where it does not say
local TRIES = 3
local PAUSE = 1000 -- after a failure nobody asks again for so long
local ALONE = 1000 -- one asks so long; then one that waits asks, too: the first may be gone, with its caller
local FIRST_LOOK, LAST_LOOK = 5, 100 -- who waits looks after so long whether there is a token, each time later

local token, since, renew_at, good_until = nil, 0, 0, 0
local asking_since, silent_until = nil, 0

local function is_asked(now, patience)
  return asking_since and now >= asking_since and now < asking_since + patience
end

local function read(head, body)
  if head[":status"] ~= "200" then
    local why = type(body) == "string" and body:match('"error"%s*:%s*"([%w_%-]+)"')
    return nil, "status " .. tostring(head[":status"]) .. (why and ", " .. why:sub(1, 60) or "")
  end
  local found = type(body) == "string" and body:match('"access_token"%s*:%s*"([^"]+)"')
  found = found and found:gsub("\\/", "/")
  if not found or #found > 8192 or found:find("[^!-~]") or found:find("\\", 1, true) then
    return nil, "its answer has no access_token that can be sent"
  end
  local kind = body:match('"token_type"%s*:%s*"([^"]*)"')
  if kind and kind:lower():sub(1, 6) ~= "bearer" then
    return nil, "its token is no Bearer token"
  end
  local seconds = tonumber(body:match('"expires_in"%s*:%s*"?(%d+)')) or USUAL
  return found, math.max(SHORTEST, math.min(seconds, LONGEST))
end

local function ask(handle, now)
  asking_since = now
  local fine, head, body
  for _ = 1, TRIES do -- a name may have several addresses, of which one does not answer
    local left = now + PATIENCE - handle:timestamp()
    if left <= 0 then break end
    fine, head, body = pcall(handle.httpCall, handle, ISSUER, HEAD, BODY, left)
    if fine and head[":status"] ~= "503" then break end
  end
  if asking_since == now then asking_since = nil end
  local found, said = nil, "it cannot be asked"
  if fine then found, said = read(head, body) end
  if not found then
    silent_until = handle:timestamp() + PAUSE
    handle:logErr("no token from " .. ISSUER .. ": " .. said)
    return
  end
  -- Counted from before it was asked for, and with a margin: on its way to the service it must not end.
  token, since, renew_at, good_until = found, now, now + said * 700, now + said * 950
end

local function have_the_next_asked(handle)
  local call = {[":method"] = "OPTIONS", [":path"] = "/", [":authority"] = OWN, [MARK] = TICKET}
  pcall(handle.httpCall, handle, OWN, call, "", PATIENCE, true)
end

local function wait(handle, milliseconds)
  local call = {[":method"] = "GET", [":path"] = "/", [":authority"] = WAIT, [DELAY] = tostring(milliseconds)}
  local fine, head = pcall(handle.httpCall, handle, WAIT, call, "", 1000)
  return fine and head[":status"] == "204"
end

function envoy_on_request(handle)
  local now = handle:timestamp()
  local ticket = handle:headers():get(MARK)
  if ticket then
    if ticket == TICKET and not is_asked(now, PATIENCE) then
      ask(handle, now)
    end
    handle:respond({[":status"] = "204"}, "")
    return
  end
  if now >= renew_at and now < good_until and now >= silent_until and not is_asked(now, PATIENCE) then
    have_the_next_asked(handle)
  end
  local look, until_then = FIRST_LOOK, now + PATIENCE
  while now >= good_until and now < until_then do
    if is_asked(now, ALONE) then
      if not wait(handle, look) then break end
      look = math.min(look * 2, LAST_LOOK)
    elseif now >= silent_until then
      ask(handle, now)
    else
      break
    end
    now = handle:timestamp()
  end
  if now >= good_until then
    handle:respond({[":status"] = "503"}, "")
    return
  end
  handle:headers():replace("authorization", "Bearer " .. token)
end

function envoy_on_response(handle)
  -- It may have been taken back. Others may be refused for reasons of their own, so not at each of them.
  if handle:headers():get(":status") == "401" and handle:timestamp() >= since + YOUNG then
    good_until = 0
  end
end
