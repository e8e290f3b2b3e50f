-- Notes what a policy wants to know of a request and its answer, for the line that the access log has of it.
-- Only what is named is noted, so that nothing secret is by accident; values are cut.
local LONGEST = 200

local function cut(value)
  return #value > LONGEST and value:sub(1, LONGEST) .. "..." or value
end

local function plain(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- only what can be written into a line
local function fit(value)
  return cut(value:gsub("[^\32-\126]", "?"))
end

local function headers_of(handle, names)
  local found = {}
  for name in (names or ""):gmatch("[^,]+") do
    local value = handle:headers():get(name)
    if value ~= nil then found[name] = fit(value) end
  end
  return found
end

local function query_of(handle, names)
  local found, wanted = {}, {}
  for name in (names or ""):gmatch("[^,]+") do wanted[name] = true end
  local path = handle:headers():get(":path") or ""
  for part in (path:match("%?(.*)") or ""):gmatch("[^&]+") do
    local name, value = part:match("^([^=]*)=?(.*)$")
    name = plain(name)
    if wanted[name] then found[name] = fit(plain(value)) end
  end
  return found
end

local function note(handle, key, found)
  if next(found) ~= nil then
    handle:streamInfo():dynamicMetadata():set("tulle.message", key, found)
  end
end

function envoy_on_request(handle)
  local wanted = handle:filterContext()
  note(handle, "request", headers_of(handle, wanted:get("request")))
  note(handle, "query", query_of(handle, wanted:get("query")))
end

function envoy_on_response(handle)
  note(handle, "response", headers_of(handle, handle:filterContext():get("response")))
end
