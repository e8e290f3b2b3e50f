-- Signs requests in with a token of the client's own: asks for it, keeps it while it is good, asks anew ahead of its end.
--
-- Before this stand ISSUER, the cluster that gives tokens, HEAD and BODY of what it is asked, PATIENCE with it, and how
-- old a token is (YOUNG) before it is given up because the service refused it, in milliseconds. It is on the last step of the way up, in each of Envoy's threads by itself. A request that comes while
-- there is no token waits for one; one for which there is none ends here. Nothing that is a secret is told to the log.

local SHORTEST, LONGEST, USUAL = 1, 86400, 300 -- seconds that a token is taken for good; USUAL where it does not say
local TRIES = 3
local PAUSE = 1000 -- after a failure nobody asks again for so long

local token, since, renew_at, good_until = nil, 0, 0, 0
local asking_until, silent_until = 0, 0

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
  asking_until = now + PATIENCE
  local fine, head, body
  for _ = 1, TRIES do -- a name may have several addresses, of which one does not answer
    local left = asking_until - handle:timestamp()
    if left <= 0 then break end
    fine, head, body = pcall(handle.httpCall, handle, ISSUER, HEAD, BODY, left)
    if fine and head[":status"] ~= "503" then break end
  end
  asking_until = 0
  local found, said = nil, "it cannot be asked"
  if fine then found, said = read(head, body) end
  if not found then
    silent_until = handle:timestamp() + PAUSE
    handle:logErr("no token from " .. ISSUER .. ": " .. said)
    return nil
  end
  -- Counted from before it was asked for, and with a margin: on its way to the service it must not end.
  token, since, renew_at, good_until = found, now, now + said * 700, now + said * 950
  return found
end

function envoy_on_request(handle)
  local now = handle:timestamp()
  local mine = now < good_until and token or nil
  local is_due = not mine or (now >= renew_at and now >= asking_until)
  if is_due and now >= silent_until then
    mine = ask(handle, now) or mine
  end
  if not mine then
    handle:respond({[":status"] = "503"}, "")
    return
  end
  handle:headers():replace("authorization", "Bearer " .. mine)
end

function envoy_on_response(handle)
  -- It may have been taken back. Others may be refused for reasons of their own, so not at each of them.
  if handle:headers():get(":status") == "401" and handle:timestamp() >= since + YOUNG then
    good_until = 0
  end
end
