/*
 * mix [ROUNDS]: what CoreMark mixes, written anew: a linked list that is searched, reversed and sorted, small integer
 * matrices, a state machine that scans numbers in text, and a CRC over it all.
 */
#include <string.h>

#include "program.h"

#define ITEMS 128
#define SIDE 16
#define TEXT 512

struct item {
    struct item *next;
    int16_t value, index;
};

static struct item items[ITEMS];
static int16_t left[SIDE][SIDE], right[SIDE][SIDE];
static int32_t product[SIDE][SIDE];
static char text[TEXT];

static uint16_t crc8(uint8_t byte, uint16_t crc)
{
    for (int i = 0; i < 8; i++) {
        unsigned bit = (byte ^ crc) & 1;
        byte >>= 1;
        crc >>= 1;
        if (bit)
            crc ^= 0xa001;
    }
    return crc;
}

static uint16_t crc32bits(uint32_t value, uint16_t crc)
{
    for (int i = 0; i < 4; i++)
        crc = crc8((uint8_t)(value >> 8 * i), crc);
    return crc;
}

static struct item *reverse(struct item *list)
{
    struct item *done = NULL;
    while (list != NULL) {
        struct item *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static struct item *find(struct item *list, int16_t value)
{
    while (list != NULL && list->value != value)
        list = list->next;
    return list;
}

typedef int (*compare)(const struct item *, const struct item *);

static int by_value(const struct item *a, const struct item *b)
{
    return a->value != b->value ? a->value - b->value : a->index - b->index;
}

static int by_index(const struct item *a, const struct item *b)
{
    return a->index - b->index;
}

/* Merge sort, comparing through a pointer. */
static struct item *sort(struct item *list, compare order)
{
    if (list == NULL || list->next == NULL)
        return list;
    struct item *slow = list, *fast = list->next;
    while (fast != NULL && fast->next != NULL) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct item *other = slow->next;
    slow->next = NULL;
    list = sort(list, order);
    other = sort(other, order);
    struct item *sorted = NULL, **end = &sorted;
    while (list != NULL && other != NULL) {
        struct item **first = order(list, other) <= 0 ? &list : &other;
        *end = *first;
        end = &(*first)->next;
        *first = *end;
    }
    *end = list != NULL ? list : other;
    return sorted;
}

static uint16_t lists(uint32_t seed, uint16_t crc)
{
    for (int i = 0; i < ITEMS; i++) {
        items[i].next = i + 1 < ITEMS ? &items[i + 1] : NULL;
        items[i].value = (int16_t)(program_random(&seed) & 0xff);
        items[i].index = (int16_t)i;
    }
    struct item *list = items;
    for (int16_t wanted = 0; wanted < 32; wanted++) {
        struct item *found = find(list, wanted);
        crc = crc32bits(found != NULL ? (uint32_t)found->index : 0xffff, crc);
        list = reverse(list);
    }
    list = sort(list, by_value);
    for (const struct item *item = list; item != NULL; item = item->next)
        crc = crc32bits((uint32_t)item->value, crc);
    list = sort(list, by_index);
    return crc32bits((uint32_t)list->value, crc);
}

static uint16_t matrices(uint32_t seed, uint16_t crc)
{
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            left[i][j] = (int16_t)(program_random(&seed) & 0x7ff);
            right[i][j] = (int16_t)(program_random(&seed) & 0x7ff);
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int32_t sum = 0;
            for (int k = 0; k < SIDE; k++)
                sum += (int32_t)left[i][k] * right[k][j];
            product[i][j] = sum;
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            crc = crc32bits((uint32_t)product[i][j], crc);
    return crc;
}

enum state { START, SIGN, WHOLE, POINT, FRACTION, EXPONENT, POWER, INVALID, STATES };

static enum state step(enum state state, char c)
{
    int digit = c >= '0' && c <= '9';
    switch (state) {
    case START:
        return digit ? WHOLE : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : INVALID;
    case SIGN:
        return digit ? WHOLE : c == '.' ? POINT : INVALID;
    case WHOLE:
        return digit ? WHOLE : c == '.' ? POINT : c == 'e' ? EXPONENT : INVALID;
    case POINT:
    case FRACTION:
        return digit ? FRACTION : c == 'e' ? EXPONENT : INVALID;
    case EXPONENT:
        return digit || c == '-' || c == '+' ? POWER : INVALID;
    case POWER:
        return digit ? POWER : INVALID;
    default:
        return INVALID;
    }
}

static uint16_t machine(uint32_t seed, uint16_t crc)
{
    static const char letters[] = "0123456789+-.e,,";
    uint32_t ended[STATES] = { 0 };
    for (int i = 0; i < TEXT; i++)
        text[i] = letters[program_random(&seed) & 15];
    enum state state = START;
    for (int i = 0; i < TEXT; i++) {
        if (text[i] == ',') {
            ended[state]++;
            state = START;
        } else {
            state = step(state, text[i]);
        }
    }
    for (int i = 0; i < STATES; i++)
        crc = crc32bits(ended[i], crc);
    return crc;
}

int main(int argc, char **argv)
{
    uint32_t rounds = program_size(argc, argv, 1000);
    uint16_t crc = 0;
    uint64_t sum = PROGRAM_HASH;
    for (uint32_t round = 1; round <= rounds; round++) {
        crc = lists(round, crc);
        crc = matrices(round, crc);
        crc = machine(round, crc);
        sum = program_mix(sum, crc);
    }
    return program_end(sum);
}
