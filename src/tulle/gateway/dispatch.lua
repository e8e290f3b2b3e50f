-- Which generation a request asks for, or by which key it is to be split: from its body's `dispatch` into headers,
-- by which the route is then chosen anew. What the body says wins over what a header says.
local function text(value)
  if type(value) == "number" then
    if value == math.floor(value) and math.abs(value) < 1e15 then
      return string.format("%d", value)
    end
    return tostring(value)
  end
  if type(value) == "string" and value ~= "" and #value <= 1000 and not value:find("[%c]") then
    return value
  end
  return nil
end

function envoy_on_request(handle)
  local said = handle:streamInfo():dynamicMetadata():get("tulle")
  if said == nil then
    return
  end
  local headers = handle:headers()
  local forced, key = text(said["forcedGeneration"]), text(said["dispatchKey"])
  if forced ~= nil then
    headers:replace("forced-generation", forced)
  end
  if key ~= nil then
    headers:replace("dispatch-key", key)
  end
  if forced ~= nil or key ~= nil then
    handle:clearRouteCache()
  end
end
