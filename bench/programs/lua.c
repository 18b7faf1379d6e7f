/*
 * lua [ROUNDS]: a script in the interpreter of Lua 5.4: closures, tables, metatables, strings, a sort. One big dispatch
 * loop. Coroutines cannot yield without setjmp.
 */
#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

#include "program.h"

static const char script[] =
    "local rounds = ...\n"
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "local function queens(n)\n"
    "  local columns, up, down, found = {}, {}, {}, 0\n"
    "  local function place(row)\n"
    "    if row > n then found = found + 1 return end\n"
    "    for c = 1, n do\n"
    "      if not (columns[c] or up[row + c] or down[row - c + n]) then\n"
    "        columns[c], up[row + c], down[row - c + n] = true, true, true\n"
    "        place(row + 1)\n"
    "        columns[c], up[row + c], down[row - c + n] = false, false, false\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  place(1)\n"
    "  return found\n"
    "end\n"
    "local sum = 0\n"
    "local function add(n) sum = (sum * 31 + n) % 1000000007 end\n"
    "for round = 1, rounds do\n"
    "  add(fib(18))\n"
    "  add(queens(6))\n"
    "  local list, seed = {}, round\n"
    "  for i = 1, 2000 do seed = (seed * 1103515245 + 12345) % 2147483648; list[i] = seed end\n"
    "  table.sort(list, function(a, b) return a > b end)\n"
    "  add(list[1]); add(list[1000])\n"
    "  local words = {}\n"
    "  for i = 1, 500 do words[#words + 1] = string.format('%x-%d', list[i], i) end\n"
    "  local text = table.concat(words, ' ')\n"
    "  local counts = {}\n"
    "  for word in text:gmatch('%x+') do counts[#word] = (counts[#word] or 0) + 1 end\n"
    "  for i = 1, 8 do add(counts[i] or 0) end\n"
    "  local tree = setmetatable({}, { __index = function(t, k) local v = k * k % 97; rawset(t, k, v) return v end })\n"
    "  for i = 1, 3000 do add(tree[i % 500]) end\n"
    "  local x = 0.5\n"
    "  for i = 1, 20000 do x = 3.7 * x * (1 - x) end\n"
    "  add(math.floor(x * 1e6))\n"
    "end\n"
    "return sum\n";

int main(int argc, char **argv)
{
    lua_State *state = luaL_newstate();
    if (state == NULL)
        abort();
    luaL_requiref(state, "_G", luaopen_base, 1);
    luaL_requiref(state, LUA_STRLIBNAME, luaopen_string, 1);
    luaL_requiref(state, LUA_TABLIBNAME, luaopen_table, 1);
    luaL_requiref(state, LUA_MATHLIBNAME, luaopen_math, 1);
    lua_settop(state, 0);
    if (luaL_loadbufferx(state, script, sizeof script - 1, "script", "t") != LUA_OK)
        abort();
    lua_pushinteger(state, (lua_Integer)program_size(argc, argv, 20));
    lua_call(state, 1, 1);
    uint64_t sum = (uint64_t)lua_tointeger(state, -1);
    lua_close(state);
    return program_end(sum);
}
